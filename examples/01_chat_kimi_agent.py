"""A LangGraph agent on ChatKimi: thinking, parallel tools, a thread that is kept, and what each turn cost.

Runs against a local simulator of Kimi's API; with MOONSHOT_API_KEY set, against Moonshot's.

    pip install "refrase-integrations[langgraph,simulator]"
    python examples/01_chat_kimi_agent.py
"""

import os
from contextlib import nullcontext

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator

QUESTIONS = ("What is the population of Paris?", "And what is the population of Lyon?")


def get_population(city: str) -> int:
    """Return how many people live in a city."""
    return {"Paris": 2_048_472, "Lyon": 519_127}[city]


def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator:
        # With a key, ChatKimi() is all: host, address and key come from the environment.
        model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="none") if simulator else ChatKimi()
        agent = create_agent(model, tools=[get_population], checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "1"}}  # also names the host's prompt cache
        for question in QUESTIONS:
            messages = agent.invoke({"messages": [("user", question)]}, thread)["messages"]
            print(f"{question}\n  {messages[-1].text}")
        replies = [message for message in messages if isinstance(message, AIMessage)]
        for change in replies[0].response_metadata["refrase"]["changes"]:
            print(f"  {change['practice']}: {change['detail']} [{change['source']}]")
        cost = sum(reply.response_metadata["cost_usd"] for reply in replies)
        reasoned = sum(reply.usage_metadata["output_token_details"]["reasoning"] for reply in replies)
        print(f"{len(replies)} model calls, {reasoned} tokens of reasoning, {cost:.6f} US dollars")


if __name__ == "__main__":
    main()
