"""Repairs conversations for good: a list of messages, or a stuck LangGraph thread in its checkpointer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi import threads
from refrase_integrations.kimi.inputs import instance, items, kind_of, text
from refrase_integrations.kimi.practice import Change
from refrase_integrations.kimi.wire import Message
from refrase_integrations.langchain.messages import ARGUMENTS, ERRORS, Decoder
from refrase_integrations.langchain.state import edits, outcome, rewrite, wire_form

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph.types import StateSnapshot


def repair_messages(messages: Sequence[BaseMessage]) -> tuple[list[BaseMessage], list[Change]]:
    """Repair a conversation so that no host refuses its form.

    Unanswered tool calls get an "interrupted" result, orphaned and second results go, as do messages that say nothing;
    broken arguments are wrapped in an object; empty and repeated tool-call ids become unique.

    ```python
    from refrase_integrations.langchain import repair_messages

    messages, changes = repair_messages(messages)
    ```

    Args:
        messages: the conversation, oldest first; it stays as it is.

    Returns:
        The repaired conversation, and what was changed (empty where it was sound). A message that needed nothing is
        the same object; a changed one keeps its id and metadata.

    Raises:
        ConfigurationError: something is no message.
    """
    messages = items(messages, "messages", "a list of messages")
    for place, message in enumerate(messages):
        instance(message, BaseMessage, f"messages[{place}]", "a message of LangChain")
    repaired = threads.repair_messages([wire_form(message) for message in messages])
    return [
        _added(wire) if origin is None else _mended(messages[origin], wire)
        for wire, origin in zip(repaired.messages, repaired.origins, strict=True)
    ], repaired.changes


def repair_thread(
    graph: Pregel[Any, Any, Any, Any],
    config: RunnableConfig,
    messages_key: str = "messages",
    *,
    as_node: str | None = None,
) -> list[Change]:
    """Repair a stuck thread in the graph's checkpointer, as one update of its state.

    Afterwards the graph goes on with new input, or with None where the run was broken off in the middle. A thread that
    is paused on purpose by ``interrupt_before`` looks like a broken-off one: resume it instead. Messages of subgraphs
    stay as they are.

    ```python
    from refrase_integrations.langchain import repair_thread

    for change in repair_thread(agent, {"configurable": {"thread_id": "42"}}):
        print(change.detail)
    ```

    Args:
        graph: a compiled graph with a checkpointer.
        config: names the thread.
        messages_key: key of the state that holds the messages.
        as_node: node in whose name the state is updated, so that the graph goes on behind it; None: the node that was
            broken off with the last tool call, else the one that wrote last.

    Returns:
        What was changed; empty where the thread was sound: nothing is written then.

    Raises:
        ConfigurationError: an argument is of another type, the state has no such key, its reducer cannot be repaired,
            or the thread waits for a human.
    """
    _check(graph, config, messages_key)
    snapshot = graph.get_state(config)
    # What a checkpoint itself holds can be less: results of finished tools may wait beside it.
    stored = graph.get_state(snapshot.config) if snapshot.values else snapshot
    plan = _plan(graph, snapshot, stored, messages_key)
    if plan.changes:
        graph.update_state(config, {messages_key: plan.update}, as_node=as_node or plan.as_node)
    return plan.changes


async def arepair_thread(
    graph: Pregel[Any, Any, Any, Any],
    config: RunnableConfig,
    messages_key: str = "messages",
    *,
    as_node: str | None = None,
) -> list[Change]:
    """The async twin of `repair_thread`; see there."""
    _check(graph, config, messages_key)
    snapshot = await graph.aget_state(config)
    stored = await graph.aget_state(snapshot.config) if snapshot.values else snapshot
    plan = _plan(graph, snapshot, stored, messages_key)
    if plan.changes:
        await graph.aupdate_state(config, {messages_key: plan.update}, as_node=as_node or plan.as_node)
    return plan.changes


# -- messages --------------------------------------------------------------------------------------------


def _added(wire: Message) -> BaseMessage:
    return ToolMessage(
        content=wire["content"], tool_call_id=wire["tool_call_id"], name=wire.get("name"), status="error"
    )


def _mended(message: BaseMessage, wire: Message) -> BaseMessage:
    before = wire_form(message)
    if wire == before:
        return message
    changed: dict[str, Any] = {}
    if wire.get("content") != before.get("content"):
        changed["content"] = wire["content"]
    if wire.get("tool_call_id") != before.get("tool_call_id"):
        changed["tool_call_id"] = wire["tool_call_id"]
    if wire.get("tool_calls") != before.get("tool_calls"):
        changed.update(_calls(message, wire))
    return message.model_copy(update=changed)


def _calls(message: BaseMessage, wire: Message) -> dict[str, Any]:
    made = Decoder(lambda _usage: None).generation({"tool_calls": wire["tool_calls"]}).message
    assert isinstance(made, AIMessage)
    stale = (ARGUMENTS, ERRORS, "tool_calls")  # the last one: the raw calls that some packages keep
    kept = {key: value for key, value in message.additional_kwargs.items() if key not in stale}
    return {
        "tool_calls": made.tool_calls,
        "invalid_tool_calls": made.invalid_tool_calls,
        "additional_kwargs": {**kept, **made.additional_kwargs},
    }


# -- threads ---------------------------------------------------------------------------------------------


def _check(graph: object, config: object, key: object) -> None:
    for method in ("get_state", "update_state"):
        if not callable(getattr(graph, method, None)):
            raise ConfigurationError(f"repair_thread takes a compiled graph, not {kind_of(graph)}")
    named = instance(config, Mapping, "config", "a dict").get("configurable")
    if not isinstance(named, Mapping) or not named.get("thread_id"):
        raise ConfigurationError("config must name the thread: {'configurable': {'thread_id': '42'}}")
    text(key, "messages_key")


class _Plan(NamedTuple):
    changes: list[Change]
    update: Sequence[BaseMessage] = ()
    as_node: str | None = None


def _plan(graph: Pregel[Any, Any, Any, Any], snapshot: StateSnapshot, stored: StateSnapshot, key: str) -> _Plan:
    """Return the update that leaves the repaired messages, in order, and what it changes."""
    channel = graph.channels.get(key)
    if channel is None:
        raise ConfigurationError(f"repair_thread: the graph's state has no key {key!r}; pass messages_key=")
    before: list[BaseMessage] = list(snapshot.values.get(key) or ())
    after, changes = repair_messages(before)
    if not changes:
        return _Plan([])
    if snapshot.interrupts:
        raise ConfigurationError(
            "repair_thread: the thread waits for an answer to an interrupt; resume it with Command(resume=...) first"
        )
    after = [message if message.id else message.model_copy(update={"id": str(uuid.uuid4())}) for message in after]
    bases = [before, list(stored.values.get(key) or ())]
    for update in (edits(before, after), rewrite(after), after):
        if all(outcome(channel, base, update) == after for base in bases):
            return _Plan(changes, update, _broken_off(snapshot, before, after))
    raise ConfigurationError(
        f"repair_thread: the reducer of {key!r} can neither remove nor replace messages; annotate it with add_messages"
    )


def _broken_off(snapshot: StateSnapshot, before: list[BaseMessage], after: list[BaseMessage]) -> str | None:
    """Return the node that was to answer the last tool call, where that answer had to be added."""
    if not after or any(message is after[-1] for message in before):
        return None
    return snapshot.next[0] if len(set(snapshot.next)) == 1 else None
