"""system-prompt: the documented default where there is none; a task-specific one is kept, and stands alone."""

from __future__ import annotations

from refrase_integrations.kimi.lines import without_own_lines
from refrase_integrations.kimi.messages import is_blank
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.wire import Body, Message, put


def apply(body: Body, call: Call) -> Edit:
    """Put the documented default in front where no system message says anything; take it out beside one that does.

    A surface before this one may have put it there when the task's own prompt was not to be seen: a node of a graph
    does, where the prompt joins the messages later.
    """
    default = call.dialect.default_system
    messages = messages_of(body)
    if default is None:
        return unchanged(body)
    said = [m for m in messages if m.get("role") == "system" and not is_blank(m.get("content"))]
    if not said:
        system: Message = {"role": "system", "content": default}
        rest = [message for message in messages if message.get("role") != "system"]
        return Edit(put(body, messages=[system, *rest]), [Change("add", "no system prompt: the documented default")])
    if len(said) == 1:
        return unchanged(body)
    own = {id(message): without_own_lines(message["content"]).strip() for message in said}
    if not any(text not in ("", default) for text in own.values()):
        return unchanged(body)
    kept = [message for message in messages if own.get(id(message)) != default]
    if len(kept) == len(messages):
        return unchanged(body)
    detail = "the documented default stood beside a prompt of the app's own: left out"
    return Edit(put(body, messages=kept), [Change("drop", detail)])


PRACTICE = Practice(
    id="system-prompt",
    statement="Adds the documented default system prompt where there is none; a task-specific one is never diluted.",
    sources=(Reference("MoonshotAI/Kimi-K2 README", "2025-07-31"),),
    scope="messages",
    apply=apply,
)
