"""`RefraseNode`: the prompt practices as a node of a LangGraph graph, for whatever model stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool

from refrase_integrations.kimi import catalogue
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.kimi.freshness import needs_fresh_data
from refrase_integrations.kimi.inputs import instance, text
from refrase_integrations.kimi.messages import text_of
from refrase_integrations.kimi.practice import Call, messages_of
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.request import prompt_call
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.wire import Message
from refrase_integrations.langchain import state as states
from refrase_integrations.langchain.tools import marked_live, wire_tools


class RefraseNode(Runnable[Any, Any]):
    """The documented prompt practices for Kimi K2 as a node, for the model you already have.

    Key arguments:
        model: the model that will read the prompt, in any host's spelling. None: the catalogue's default. One that the
            catalogue does not know (another vendor's) gets its messages as they are, and the log says so once.
        host: id of its host. None: Moonshot's international API.
        tools: the tools that the model has, in any form that ``bind_tools`` takes. None: unknown, then nothing is said
            about live data; ``[]``: none.
        practices: `Practices`, a dict such as ``{"fresh_data": "off"}``, or "off". Only the practices on the prompt act
            here: the forms of one host's wire never enter a state.
        messages_key: key of the state that holds the messages. It needs a reducer (``add_messages``).
        output_key: key that takes the messages for the model, so that the history stays as it is, such as
            ``"llm_input_messages"``. None: the history itself is changed, by one system message at most.

    In a graph:
        ```python
        from langgraph.graph import START, MessagesState, StateGraph
        from refrase_integrations.langchain import RefraseNode

        builder = StateGraph(MessagesState)
        builder.add_node("refrase", RefraseNode())
        builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_edge(START, "refrase")
        builder.add_edge("refrase", "model")
        ```
        States may be TypedDicts, dataclasses or pydantic models. A message is changed by its id. Only where the system
        message has to be put in front (mostly in the first turn) the whole list is written: a node that writes messages
        in that same step may lose them, so let this one run by itself. Where two of these nodes run in one step, give
        the keys below a reducer or leave them out.

    What it writes beside messages, where the state has such a key:
        - ``refrase_report``: a dict that says what was changed and why.
        - ``needs_fresh_data``: a bool, whether the last question needs live data; see `route_fresh_data`.

    A system prompt of the app's own belongs into the state, or in front of what this node reads: put before its output
    (``model.invoke([SystemMessage("..."), *state["messages"]])``) it would stand beside the documented default. The
    default goes out of the state again as soon as another system message is there; behind the node, `ChatKimi`, a
    wrapped model and `KimiMiddleware` leave it out too.

    History left alone (for a graph of your own, the same key in its state, without a reducer):
        ```python
        from langgraph.prebuilt import create_react_agent

        hook = RefraseNode(tools=tools, output_key="llm_input_messages")
        agent = create_react_agent(model, tools, pre_model_hook=hook)
        ```
        Leave ``prompt=`` out there: it would be put in front of the prompt that is there already.

    In a chain:
        ```python
        chain = RefraseNode() | model
        chain.invoke([("user", "Hello")])
        ```
    """

    def __init__(
        self,
        model: str | None = None,
        host: str | None = None,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        practices: Practices | Mapping[str, Any] | Literal["off"] | None = None,
        messages_key: str = "messages",
        *,
        output_key: str | None = None,
    ) -> None:
        self.model = catalogue.DEFAULT_MODEL if model is None else model
        self.host = host
        self.tools = None if tools is None else wire_tools(tools)
        self._live = marked_live(tools or ())
        self.practices = Practices.of(practices)
        self.messages_key = text(messages_key, "messages_key")
        instance(output_key, (str, type(None)), "output_key", "a text or None")
        self.output_key = None if output_key == messages_key else output_key
        self._call([])  # an unknown host: better said here than by the first run

    def __repr__(self) -> str:
        return f"RefraseNode(model={self.model!r}, host={self.host!r})"

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Apply the prompt practices.

        Args:
            input: a graph's state of any kind, or what a chat model takes: text, a prompt value, a list of messages.
            config: LangGraph's, where this runs as a node.
            kwargs: nothing; every runnable takes them.

        Returns:
            An update of the state: a dict, or LangGraph's ``Command`` of the same update where this runs as a node. For
            a list of messages the changed list.

        Raises:
            ConfigurationError: the state has no such messages, or its reducer cannot take the update.
            InvalidMessage: something among them is no message.
            PracticeError: a practice refuses the prompt, as ``practices={"fresh_data": "error"}`` can.
        """
        messages = states.given_messages(input)
        if messages is not None:
            return self._refrased(messages)[0]
        channels = states.channels(config)
        update = self._update(states.state_messages(input, self.messages_key), channels)
        if channels is None:
            return update
        from langgraph.types import Command

        # As pairs: of a dict of messages the stream mode "messages" would show the system prompt to the app's user.
        return Command(update=list(update.items()))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The async twin of `invoke`: nothing here waits."""
        return self.invoke(input, config, **kwargs)

    def _call(self, messages: list[Message]) -> Call:
        host, now = find_host(self.host), datetime.now(UTC)
        return prompt_call(
            self.model,
            host,
            messages,
            tools=self.tools,
            practices=self.practices,
            now=now,
            live_tools=self._live,
        )

    def _update(self, before: list[BaseMessage], channels: Mapping[str, Any] | None) -> dict[str, Any]:
        after, report = self._refrased(before)
        update: dict[str, Any] = {states.REPORT: report, states.FRESH: _asks_fresh(before)}
        if self.output_key is not None:
            return {self.output_key: states.replacement(channels, self.output_key, after), **update}
        changed = states.change(channels, self.messages_key, before, after)
        return {self.messages_key: changed, **update} if changed else update

    def _refrased(self, messages: list[BaseMessage]) -> tuple[list[BaseMessage], dict[str, Any]]:
        messages = states.own_first(messages)
        before = [states.wire_form(message) for message in messages]
        prepared = prepare(self._call(before))
        return states.mended(messages, before, messages_of(prepared.body)), prepared.report.as_dict()


def route_fresh_data(state: Any, messages_key: str = "messages") -> Literal["fresh", "known"]:
    """Tell a graph where to go: "fresh" where the last question needs live data, else "known".

    ```python
    from refrase_integrations.langchain import route_fresh_data

    builder.add_conditional_edges("refrase", route_fresh_data, {"fresh": "search", "known": "model"})
    ```

    Args:
        state: a graph's state of any kind. What `RefraseNode` wrote under its key ``needs_fresh_data`` decides; where
            there is no such key, the last user message does.
        messages_key: key of the state that holds the messages; give another one with ``functools.partial``.
    """
    verdict = states.state_value(state, states.FRESH)
    if verdict is None:
        verdict = _asks_fresh(states.state_messages(state, messages_key))
    return "fresh" if verdict else "known"


def _asks_fresh(messages: Sequence[BaseMessage]) -> bool:
    asked = next((message for message in reversed(messages) if isinstance(message, HumanMessage)), None)
    return asked is not None and bool(needs_fresh_data(text_of(asked.content), datetime.now(UTC)))
