"""RefraseNode in a LangGraph graph, in front of a model that knows nothing of Kimi (ChatOpenAI).

The node gives the model the documented prompt, tells it which tool has live data, and says which questions need one:
they go to a model with tools, all others to the same model without. Runs against a local simulator of Kimi's API; with
MOONSHOT_API_KEY set, against Moonshot's.

    pip install "refrase-integrations[langgraph,simulator]" langchain-openai
    python examples/02_refrase_node.py
"""

import os
from contextlib import nullcontext
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from refrase_integrations.langchain import RefraseNode, route_fresh_data
from refrase_integrations.simulator import KimiSimulator

QUESTIONS = ("What is the weather in Paris today?", "Explain in one sentence what a hash map is.")


class State(MessagesState):
    needs_fresh_data: bool
    refrase_report: dict[str, Any]


def get_weather(city: str) -> str:
    """Return the current weather in a city."""
    return f"It is 21 degrees and sunny in {city}."


def build(model: ChatOpenAI) -> Any:
    with_tools = model.bind_tools([get_weather])
    builder = StateGraph(State)
    builder.add_node("refrase", RefraseNode(tools=[get_weather]))
    builder.add_node("researcher", lambda state: {"messages": [with_tools.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([get_weather]))
    builder.add_node("writer", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "refrase")
    builder.add_conditional_edges("refrase", route_fresh_data, {"fresh": "researcher", "known": "writer"})
    builder.add_conditional_edges("researcher", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "researcher")
    return builder.compile(checkpointer=InMemorySaver())


def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator:
        url = simulator.base_url if simulator else os.environ.get("MOONSHOT_BASE_URL", "https://api.moonshot.ai/v1")
        # ChatOpenAI loses Kimi's reasoning, and the API refuses tool results without it: so it has to do without.
        plain = {"thinking": {"type": "disabled"}}
        graph = build(ChatOpenAI(model="kimi-k2.6", base_url=url, api_key=key or "none", extra_body=plain))
        for question in QUESTIONS:
            state = graph.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "1"}})
            print(f"{question}\n  needs fresh data: {state['needs_fresh_data']}\n  {state['messages'][-1].text}")
            for change in state["refrase_report"]["changes"]:
                print(f"  {change['practice']}: {change['detail']} [{change['source']}]")
        print(f"In the thread: {[message.type for message in state['messages']]}")


if __name__ == "__main__":
    main()
