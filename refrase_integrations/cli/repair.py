"""``refrase-kimi repair``: a stored conversation that every host refuses, mended for good."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from refrase_integrations.cli.terminal import STDIN, read_file, read_json, shown_name, write_file
from refrase_integrations.errors import ConfigurationError


def repair(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON: messages, or a body with them; JSONL; - is stdin.")
    ],
    *,
    write: Annotated[bool, typer.Option("--write", help="Mend the file itself instead of printing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say what is wrong; status 1 where anything is.")] = False,
) -> None:
    """Repair a conversation in the OpenAI form: unanswered and orphaned tool calls, blank turns, ids used twice.

    What was changed is told on the error stream. A message that is sound stays as it is.

    \b
    Examples:
      refrase-kimi repair thread.json > repaired.json
      refrase-kimi repair --write thread.jsonl
      refrase-kimi repair --check thread.json
    """
    from refrase_integrations.kimi.threads import repair_messages

    if write and file == STDIN:
        raise ConfigurationError("--write needs a file: from the standard input the repaired thread is printed")
    text = read_file(file)
    lines = _is_lines(text)
    value = [read_json(line, file) for line in text.splitlines() if line.strip()] if lines else read_json(text, file)
    repaired = repair_messages(_messages(value, file))
    for change in repaired.changes:
        typer.echo(change.detail, err=True)
    typer.echo(f"{len(repaired.changes)} change(s) in {len(_messages(value, file))} messages", err=True)
    if check:
        raise typer.Exit(1 if repaired.changes else 0)
    made: Any = {**value, "messages": repaired.messages} if isinstance(value, dict) else repaired.messages
    if lines:
        written = "".join(json.dumps(message, ensure_ascii=False) + "\n" for message in made)
    else:
        written = json.dumps(made, ensure_ascii=False, indent=2) + "\n"
    if not write:
        typer.echo(written, nl=False)
    elif repaired.changes:
        write_file(file, written)


def _is_lines(text: str) -> bool:
    """Tell whether this is JSONL: more than one line, each an object of its own."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines)


def _messages(value: Any, file: str) -> list[Any]:
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise ConfigurationError(f"{shown_name(file)} holds no messages: a list of them, or an object with 'messages'")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ConfigurationError(f"{shown_name(file)}: messages[{place}] has no role: the OpenAI form is wanted")
        calls = message.get("tool_calls")
        if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise ConfigurationError(f"{shown_name(file)}: messages[{place}].tool_calls is no list of objects")
    return messages
