"""with_kimi_practices around a chat model that you already have (ChatOpenAI), streamed, with tools and a schema.

By itself ChatOpenAI sends what Kimi K2.6 refuses: a temperature, a forced tool choice, a schema with keywords that
Moonshot does not know. Runs against a local simulator of Kimi's API; with MOONSHOT_API_KEY set, against Moonshot's.

    pip install "refrase-integrations[langgraph,simulator]" langchain-openai
    python examples/04_wrap_a_model.py
"""

import os
from contextlib import nullcontext
from typing import Literal

import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from refrase_integrations.langchain import with_kimi_practices
from refrase_integrations.simulator import KimiSimulator


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    sky: Literal["clear", "cloudy", "rain"]
    degrees: int = Field(description="Celsius", multiple_of=1)


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"{city}: clear, 21 degrees."


def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator:
        url = simulator.base_url if simulator else os.environ.get("MOONSHOT_BASE_URL", "https://api.moonshot.ai/v1")
        plain = ChatOpenAI(model="kimi-k2.6", base_url=url, api_key=key or "none", temperature=0.2)
        if simulator:  # what the API says to the model as it is; with a key this request would be wasted
            try:
                plain.invoke("Say hello.")
            except openai.BadRequestError as error:
                print(f"ChatOpenAI alone: {error.status_code} {error.body['message']}")
        model = with_kimi_practices(plain, host="moonshot")
        print("Wrapped, streamed: ", end="")
        for chunk in model.stream("Say hello."):
            print(chunk.text, end="")
        print()
        call = model.bind_tools([get_weather], tool_choice="any").invoke("What is the weather in Paris?").tool_calls[0]
        print(f"A forced tool: {call['name']} {call['args']}")
        structured = model.with_structured_output(Weather, include_raw=True)
        reply = structured.invoke("The weather in Paris is clear, it has 21 degrees.")
        print(f"A schema: {reply['parsed']!r}")
        for change in reply["raw"].response_metadata["refrase"]["changes"]:
            print(f"  {change['practice']}: {change['detail']} [{change['source']}]")


if __name__ == "__main__":
    main()
