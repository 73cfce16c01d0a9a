"""fresh-data: what may have changed comes from a live tool; without one the model says that it has no live data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refrase_integrations.errors import NoLiveData
from refrase_integrations.kimi.choices import kind_of, name_in
from refrase_integrations.kimi.freshness import Verdict, brings_live_data, is_live_tool, needs_fresh_data
from refrase_integrations.kimi.lines import in_chinese, own_line, put_line
from refrase_integrations.kimi.memo import Memo, digest
from refrase_integrations.kimi.messages import text_of
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.practices.tool_names import alias
from refrase_integrations.kimi.wire import Body

MARKER = "Freshness rule:"
WITHOUT = (
    f"{MARKER} you have no live data beyond this conversation. If an answer may have changed since your training, "
    "say so rather than guess."
)
WITH = f"{MARKER} for anything that may have changed since your training, call {{tools}} before you answer."
WITHOUT_ZH = f"{MARKER} 除本次对话外，你没有实时数据。答案在训练之后可能已变时，请如实说明，不要猜测。"
WITH_ZH = f"{MARKER} 凡训练之后可能已变的内容，先调用 {{tools}} 再回答。"
_OURS = own_line(MARKER, WITHOUT, WITH, WITHOUT_ZH, WITH_ZH, tools=r"\S+(?: (?:or|或) \S+)*")
_MOST_NAMED = 5  # the line stays short; an app with more live tools names the ones that count first


def apply(body: Body, call: Call) -> Edit:
    """Put the line that fits the bound tools into the system prompt; say where a question needs what is not there."""
    if not call.tools_known or brings_live_data(call.extra):
        return unchanged(body)
    live = _live(body, call)
    chinese, named = in_chinese(body), live[:_MOST_NAMED]
    if live:
        line = WITH_ZH.format(tools=" 或 ".join(named)) if chinese else WITH.format(tools=" or ".join(named))
    else:
        line = WITHOUT_ZH if chinese else WITHOUT
    edited = put_line(body, _OURS, line)
    changes = []
    if edited is not body:
        changes.append(Change("add", f"a line on live data: {', '.join(live) or 'no live tool is bound'}"))
    if not live and (verdict := _verdict(body, call)):
        detail = f"a question on {verdict.reason} needs live data and no live tool is bound; bind one, or name yours in"
        changes.append(Change("advise", f"{detail} live_tools=[...]"))
    return Edit(edited, changes)


def _live(body: Body, call: Call) -> list[str]:
    """Return the live tools that the model may call, under the names that it reads."""
    choice = body.get("tool_choice")
    kind = kind_of(choice)
    if kind == "none":
        return []
    pattern = call.dialect.tool_name
    marked = {alias(name, pattern) for name in call.live_tools} | call.live_tools
    found = [tool for tool in _tools(body, call) if is_live_tool(tool, marked)]
    names = [(tool.get("function") or tool)["name"] for tool in found]
    if kind == "named":  # a forced tool is mostly a form for the answer: only a mark makes it a live one
        names = [name for name in names if name == name_in(choice) and name in marked]
    return list(dict.fromkeys(alias(name, pattern) for name in names))


def _tools(body: Body, call: Call) -> Iterator[Mapping[str, Any]]:
    for source in (body, call.extra):
        for key in ("tools", "functions"):  # functions: the form of 2023
            given = source.get(key)
            if isinstance(given, (list, tuple)):
                yield from (tool for tool in given if isinstance(tool, Mapping))


_verdicts: Memo[Verdict] = Memo(256)  # an agent asks about the same question again and again


def _verdict(body: Body, call: Call) -> Verdict:
    said = [message for message in messages_of(body) if message.get("role") == "user"]
    text = text_of(said[-1].get("content")) if said else ""
    year = call.now.year if call.now is not None else None
    return _verdicts(digest([text, year]), lambda: needs_fresh_data(text, call.now))


PRACTICE = Practice(
    id="fresh-data",
    statement="Names the live tools for what may have changed; without one the model says so rather than guess.",
    sources=(
        Reference("refrase.cc/models/kimi-k2 (Skywork.ai analysis)", "2026-11-23", "C"),
        Reference("skywork.ai/blog/?p=38019", "2026-11-23", "C"),
    ),
    scope="messages",
    error=NoLiveData,
    apply=apply,
)
