"""KimiMiddleware in LangChain's create_agent, around a model that knows nothing of Kimi (ChatOpenAI).

Without it the same agent ends on a 400: `response_format` forces a tool choice that a thinking model does not take, and
ChatOpenAI loses the reasoning that the API wants back. Runs against a local simulator of Kimi's API; with
MOONSHOT_API_KEY set, against Moonshot's.

    pip install "refrase-integrations[langgraph,simulator]" langchain-openai
    python examples/03_create_agent_middleware.py
"""

import os
from contextlib import nullcontext

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware, ToolRetryMiddleware
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator

QUESTIONS = ("What is the population of Paris?", "What is the population of Lyon?")


class City(BaseModel):
    """A city and how many people live there."""

    name: str
    population: int


def get_population(city: str, year: int | None = None) -> dict[str, str | int]:
    """Return how many people live in a city."""
    return {"name": city, "population": {"Paris": 2_048_472, "Lyon": 519_127}[city]}


def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator:
        url = simulator.base_url if simulator else os.environ.get("MOONSHOT_BASE_URL", "https://api.moonshot.ai/v1")
        agent = create_agent(
            ChatOpenAI(model="kimi-k2.6", base_url=url, api_key=key or "none"),
            tools=[get_population],
            response_format=City,
            # Last in the list: inside whatever limits, retries and routes the calls.
            middleware=[
                ModelCallLimitMiddleware(run_limit=10),
                ToolRetryMiddleware(),
                KimiMiddleware(host="moonshot", nudge=1),
            ],
        )
        for question in QUESTIONS:
            state = agent.invoke({"messages": [("user", question)]})
            print(f"{question}\n  {state['structured_response']!r}")
        print("Done in the last model call:")
        report = state["refrase_report"]
        for line in (*report["changes"], *report["healed"]):
            print(f"  {line['practice']}: {line['detail']} [{line['source']}]")


if __name__ == "__main__":
    main()
