"""The damage that faulty hosts do to requests and replies, as the quirks say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from refrase_integrations.simulator.completion import Call, Choice


def bend_request(body: dict[str, Any], quirks: Mapping[str, Any], random: Random, *, thinking: bool) -> dict[str, Any]:
    """Return the request as the host understands it, in a copy.

    Args:
        body: the request.
        quirks: every quirk's value.
        random: generator of this reply.
        thinking: whether the model reasons where nothing switches it.
    """
    # Said in Moonshot's own way, so that no switch counts which this host does not know.
    switches = [on for path in quirks["thinking_switch"] if (on := _switched(body, path)) is not None]
    bent = {**body, "thinking": {"type": "enabled" if next(iter(switches), thinking) else "disabled"}}
    if quirks["output_cap"] and not (body.get("max_tokens") or body.get("max_completion_tokens")):
        bent["max_completion_tokens"] = quirks["output_cap"]
    if _hits(quirks["ignore_tool_choice"], random) and body.get("tool_choice") == "none":
        bent["tool_choice"] = "auto"
    if _hits(quirks["ignore_json_schema"], random) and (body.get("response_format") or {}).get("type") == "json_schema":
        del bent["response_format"]
    return bent


def damage(
    choice: Choice, body: Mapping[str, Any], quirks: Mapping[str, Any], random: Random, *, leaks: bool
) -> Choice:
    """Return ``choice`` as the faulty host delivers it.

    Args:
        choice: the sound reply, with the host's ids.
        body: the request that it answers.
        quirks: every quirk's value.
        random: generator of this reply.
        leaks: the model writes the K2 tool-call text, which can leak.
    """
    # Every chance is drawn, whether it matters or not: one quirk must never shift the draws of another.
    hit = {name: _hits(quirks[name], random) for name in _FAULTS}
    calls = choice.calls
    for name, break_arguments in _ARGUMENT_FAULTS.items():
        if hit[name]:
            calls = [replace(call, arguments=break_arguments(call.arguments, random)) for call in calls]
    if hit["undeclared_tool"]:
        calls = [_undeclared(call, body) for call in calls]
    if hit["duplicate_ids"] and calls:
        # Servers that number each reply by itself start again at 0.
        first = re.sub(r":\d+$", ":0", calls[0].id) if ":" in calls[0].id else "call_0"
        calls = [replace(call, id=first) for call in calls]
    if hit["missing_index"]:
        calls = [replace(call, index=None) for call in calls]
    if hit["wrong_index"]:
        calls = [replace(call, index=0) for call in calls]
    choice = replace(choice, calls=calls)
    foreign = _foreign_id(body) if quirks["foreign_id_leak"] else None
    if calls and leaks and (foreign or hit["leak_tool_calls"] or hit["leak_in_reasoning"]):
        text = _section(calls, foreign, bare=hit["leak_bare_ids"], unclosed=hit["leak_open_section"])
        choice = replace(choice, calls=[], finish_reason="stop")
        if hit["leak_in_reasoning"]:
            choice = replace(choice, reasoning=(choice.reasoning or "") + text)
        else:
            choice = replace(choice, content=choice.content + text)
    if hit["lost_calls"]:
        choice = replace(choice, lost=True)
    if hit["reasoning_only"] and choice.reasoning is not None:
        choice = replace(choice, content="", calls=[], finish_reason="length")
    if hit["think_in_content"] and choice.reasoning is not None:
        choice = replace(choice, content=f"<think>{choice.reasoning}</think>{choice.content}", reasoning=None)
    return choice


def _hits(chance: float, random: Random) -> bool:
    return random.random() < chance


def _switched(body: Mapping[str, Any], path: str) -> bool | None:
    """Return what the switch at the dotted ``path`` says; None: nothing."""
    value: Any = body
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = {"enabled": True, "disabled": False}.get(str(value.get("type")))
    return False if value == "none" else value if isinstance(value, bool) else None


# -- leaked tool-call text -------------------------------------------------------------------------------

_NATIVE_ID = re.compile(r"functions\.[\w.\-]+:\d+")


def _section(calls: list[Call], foreign: str | None, *, bare: bool, unclosed: bool) -> str:
    """Write the native tool-call text (MoonshotAI/Kimi-K2 docs/tool_call_guidance.md)."""
    prefix = "" if bare else "functions."
    written = "".join(
        f"<|tool_call_begin|>{foreign or f'{prefix}{call.name}:{call.position}'}"
        f"<|tool_call_argument_begin|>{call.arguments}<|tool_call_end|>"
        for call in calls
    )
    return f"<|tool_calls_section_begin|>{written}{'' if unclosed else '<|tool_calls_section_end|>'}"


def _foreign_id(body: Mapping[str, Any]) -> str | None:
    """Return the last tool-call id of the history that is not in the native form: the model copies it."""
    for message in reversed(body.get("messages", [])):
        for call in reversed(message.get("tool_calls") or []):
            if not _NATIVE_ID.fullmatch(str(call.get("id"))):
                return str(call.get("id"))
    return None


# -- damaged calls ---------------------------------------------------------------------------------------


def _undeclared(call: Call, body: Mapping[str, Any]) -> Call:
    declared = {tool.get("function", {}).get("name") for tool in body.get("tools") or []}
    name = f"{call.name}_tool"
    while name in declared:
        name += "_2"
    return replace(call, name=name, id=call.id.replace(call.name, name))


def _nested_json_text(arguments: str, _random: Random) -> str:
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    if not isinstance(values, dict) or not any(isinstance(value, (dict, list)) for value in values.values()):
        return arguments
    wrapped = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        for key, value in values.items()
    }
    return json.dumps(wrapped, ensure_ascii=False)


def _trailing_comma(arguments: str, _random: Random) -> str:
    inside = arguments.rstrip().removesuffix("}")
    return f"{inside},}}" if inside.strip("{ \n") and inside != arguments else arguments


def _raw_control_characters(arguments: str, _random: Random) -> str:
    return re.sub(r"(?<!\\)\\([nt])", lambda match: {"n": "\n", "t": "\t"}[match[1]], arguments)


def cut_arguments(arguments: str, random: Random) -> str:
    """Return the beginning of the arguments of a call."""
    return arguments[: random.randint(1, len(arguments) - 1)] if len(arguments) > 1 else ""


_ARGUMENT_FAULTS: Mapping[str, Callable[[str, Random], str]] = {
    "nested_json_text": _nested_json_text,
    "trailing_comma": _trailing_comma,
    "raw_control_characters": _raw_control_characters,
    "cut_arguments": cut_arguments,
}
_FAULTS = (
    *_ARGUMENT_FAULTS,
    "undeclared_tool",
    "duplicate_ids",
    "missing_index",
    "wrong_index",
    "leak_tool_calls",
    "leak_in_reasoning",
    "leak_bare_ids",
    "leak_open_section",
    "lost_calls",
    "reasoning_only",
    "think_in_content",
)
