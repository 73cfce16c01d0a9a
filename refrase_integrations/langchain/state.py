"""The messages of a graph's state: read from a state of any kind, mended, written back through the key's reducer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    RemoveMessage,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig

from refrase_integrations.errors import ConfigurationError, InvalidMessage
from refrase_integrations.kimi.messages import is_blank
from refrase_integrations.kimi.wire import Message
from refrase_integrations.langchain.messages import encode

REPORT = "refrase_report"
"""Key of a state that takes the report of the surface that ran last."""
FRESH = "needs_fresh_data"
"""Key of a state that takes whether the last question needs live data: a bool."""
SYSTEM_ID = "refrase-system"
"""Id of the system message that we add to a state. It is the same in every thread, so that a parent graph which merges
a subgraph's messages by id never holds it twice."""

_READ = "__pregel_read"  # LangGraph's own way for its edges and writers to reach the channels, from a node's config


def given_messages(value: Any) -> list[BaseMessage] | None:
    """Return the messages of what a chat model takes: text, a prompt value, a list; None where ``value`` is a state.

    Raises:
        InvalidMessage: something in the list is no message.
    """
    if isinstance(value, PromptValue):
        return value.to_messages()
    return _messages(value) if isinstance(value, str | BaseMessage | Sequence) else None


def state_messages(state: Any, key: str) -> list[BaseMessage]:
    """Return the messages under ``key`` of a dict, dataclass or pydantic state.

    Raises:
        ConfigurationError: the state has no such key.
        InvalidMessage: what stands there are no messages.
    """
    found = state_value(state, key)
    if found is None:
        raise ConfigurationError(
            f"the state ({type(state).__name__}) has no messages under {key!r}; name their key with messages_key="
        )
    return _messages(found)


def _messages(found: Any) -> list[BaseMessage]:
    if isinstance(found, str | BaseMessage | Mapping):
        found = [found]
    if not isinstance(found, Iterable):
        raise InvalidMessage(f"a list of messages was expected, not {type(found).__name__}")
    given: list[Any] = list(found)
    try:
        return convert_to_messages(given)
    except Exception:  # noqa: BLE001 - whatever core raises of what may be anything; its words show the message
        place = next((n for n, one in enumerate(given) if not _is_message(one)), 0)
        raise InvalidMessage(
            f"messages[{place}]: this {type(given[place]).__name__} is no message: take LangChain's messages, "
            "('user', 'text') or {'role': 'user', 'content': 'text'}"
        ) from None


def _is_message(one: Any) -> bool:
    try:
        return bool(convert_to_messages([one]))
    except Exception:  # noqa: BLE001
        return False


def state_value(state: Any, key: str) -> Any:
    """Return what a state of any kind holds under ``key``; None where it is not there or not written yet."""
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def wire_form(message: BaseMessage) -> Message:
    """Return the form in which messages are mended: on the wire, but with their content as it is, since blocks of every
    vendor have to stay."""
    try:
        [wire] = encode([message])
    except InvalidMessage:  # a block that Kimi cannot take: not blank, and no matter here
        try:
            [wire] = encode([message.model_copy(update={"content": ""})])
        except InvalidMessage:
            return {"role": message.type, "content": message.content}
        return {**wire, "content": message.content}
    return wire if is_blank(wire.get("content")) else {**wire, "content": message.content}


def mended(messages: Sequence[BaseMessage], before: Sequence[Message], after: Sequence[Message]) -> list[BaseMessage]:
    """Return the messages that stand for a conversation whose texts were changed.

    Args:
        messages: the conversation as it was.
        before: its wire forms, one for one.
        after: the changed conversation: of each message that needed nothing the same wire form.

    Returns:
        The same object for each message that needed nothing; a changed one keeps its id and metadata; a system message
        that is new gets `SYSTEM_ID`.
    """
    homes = {id(wire): message for wire, message in zip(before, messages, strict=True)}
    kept = {id(wire) for wire in after}
    left = [(wire.get("role"), homes[id(wire)]) for wire in before if id(wire) not in kept]
    result: list[BaseMessage] = []
    for wire in after:
        message = homes.get(id(wire))
        if message is None:
            place = next((n for n, (role, _) in enumerate(left) if role == wire.get("role")), None)
            if place is None:
                message = SystemMessage(wire["content"], id=SYSTEM_ID)
            else:
                message = left.pop(place)[1].model_copy(update={"content": wire["content"]})
        result.append(message)
    return result


def own_first(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Put the system message that we added in front again.

    A parent graph appends what a subgraph inserted at the front, so from the second turn on it stands in the middle.
    """
    place = next((n for n, message in enumerate(messages) if message.id == SYSTEM_ID), 0)
    return [messages[place], *messages[:place], *messages[place + 1 :]] if place else messages


# -- writing ---------------------------------------------------------------------------------------------


def channels(config: RunnableConfig | None) -> Mapping[str, Any] | None:
    """Return the channels of the graph in which a node runs; None outside of one, or where LangGraph hides them."""
    read = (config or {}).get("configurable", {}).get(_READ)
    found = next((given for given in getattr(read, "args", ()) if isinstance(given, Mapping)), None)
    return found if isinstance(found, Mapping) else None


def change(
    visible: Mapping[str, Any] | None, key: str, before: Sequence[BaseMessage], after: Sequence[BaseMessage]
) -> list[BaseMessage]:
    """Return the update that makes ``after`` of ``before``; empty where nothing changed.

    By id where that is enough, so that what a parallel node writes in the same step is never lost; the whole list,
    behind an order to remove all, where something has to move or to stand in front.

    Args:
        visible: the graph's `channels`; None: not known, then nothing is checked.
        key: the key of the messages.
        before: the messages of the state.
        after: the messages as they are to be.

    Raises:
        ConfigurationError: the key's reducer would make something else of it.
    """
    update: list[BaseMessage] = []
    if [id(message) for message in after] != [id(message) for message in before]:
        kept = {message.id for message in after}
        known = {message.id for message in before}
        order = [message.id for message in before if message.id in kept]
        order += [message.id for message in after if message.id not in known]
        by_id = None not in known and order == [message.id for message in after]
        update = edits(before, after) if by_id else rewrite(after)
    channel = (visible or {}).get(key)
    if channel is not None and after:
        base = _value(channel)
        if _ids(base) != _ids(before):
            raise ConfigurationError(
                f"these are not the messages of the graph's own key {key!r} (they came by Send, or an input schema "
                "changed them), so none can be written back: use a subgraph with this node, or RefraseNode(...) | model"
            )
        # The last message once more changes nothing either: so that a wrong state fails in its first run, not some day.
        if not _sound(outcome(channel, base, update or after[-1:]), after):
            raise ConfigurationError(
                f"the state's key {key!r} does not take changes of single messages: annotate it with add_messages, or "
                "write to a key of its own with output_key='llm_input_messages'"
            )
    return update


def replacement(visible: Mapping[str, Any] | None, key: str, after: list[BaseMessage]) -> list[BaseMessage]:
    """Return the update that leaves exactly ``after`` under a key that is ours alone.

    Raises:
        ConfigurationError: the state has no such key, or its reducer keeps something else.
    """
    if visible is None:
        return after
    channel = visible.get(key)
    if channel is None:
        raise ConfigurationError(f"the state has no key {key!r}: add it to the graph's state, as a list of messages")
    bases = (_value(channel), after)  # what stands there now, and what will stand there in the next turn
    for update in (after, rewrite(after)):
        if all(_ids(outcome(channel, base, update)) == _ids(after) for base in bases):
            return update
    raise ConfigurationError(f"the reducer of the state's key {key!r} cannot replace the messages: leave it out")


def edits(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the least update by id: enough where nothing has to stand in the middle."""
    kept = {message.id for message in after}
    same = {id(message) for message in before}
    gone: list[BaseMessage] = [RemoveMessage(id=str(message.id)) for message in before if message.id not in kept]
    return [*gone, *(message for message in after if id(message) not in same)]


def rewrite(after: Iterable[BaseMessage]) -> list[BaseMessage]:
    """Return the update that replaces the whole list."""
    from langgraph.graph.message import REMOVE_ALL_MESSAGES

    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *after]


def outcome(channel: Any, base: Sequence[BaseMessage], update: Sequence[BaseMessage]) -> list[AnyMessage] | None:
    """Return what the state's own reducer would make of an update; None where it refuses it."""
    trial = channel.from_checkpoint(list(base))
    try:
        trial.update([list(update)])
        value = trial.get()
    except Exception:  # noqa: BLE001 - the user's own reducer
        return None
    return value if isinstance(value, list) else None


def _value(channel: Any) -> list[BaseMessage]:
    return list(channel.get() or ()) if channel.is_available() else []


def _ids(messages: Sequence[Any] | None) -> list[str | None]:
    return [getattr(message, "id", None) for message in messages or ()]


def _sound(made: Sequence[Any] | None, wanted: Sequence[BaseMessage]) -> bool:
    """Tell whether a reducer kept the first and the last message, what it kept in order, and nothing twice.

    It may shorten what stands between: an app that trims in its reducer knows what it does.
    """
    kept, ids = _ids(made), _ids(wanted)
    rest = iter(ids)
    return kept[:1] == ids[:1] and kept[-1:] == ids[-1:] and all(one in rest for one in kept)
