"""``refrase-kimi lint``: prompts and tool schemas, checked and mended, in the terminal, before a commit and in CI."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refrase_integrations.cli.terminal import STDIN, AsJson, print_json, print_text, read_file, write_file
from refrase_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from refrase_integrations.cli.lint.subjects import Problem, Subject


class Kind(StrEnum):
    """What a file holds."""

    auto = "auto"
    prompt = "prompt"
    tools = "tools"


def lint(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Prompts or JSON with tools; - is stdin.")],
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended: in the file, or - to stdout.")] = False,
    kind: Annotated[
        Kind, typer.Option(help="What the files hold; auto: JSON holds tools, other text is one.")
    ] = Kind.auto,
    model: Annotated[str | None, typer.Option(help="Model that will read it; default: the package's.")] = None,
    host: Annotated[str | None, typer.Option(help="Host that it runs on; default: moonshot, the strictest.")] = None,
    bound: Annotated[str | None, typer.Option("--tools", help="Names of tools bound beside a prompt: a,b.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A rule to leave out. Repeatable.")] = None,
    as_json: AsJson = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, as code scanning reads it.")] = False,
) -> None:
    """Check prompts and tool schemas for what Kimi K2 or its hosts stumble over; --fix mends what loses nothing.

    Ends with status 0: nothing found (or all of it mended), 1: findings are left, 2: the command could not run.

    \b
    Examples:
      refrase-kimi lint prompts/*.md tools.json
      refrase-kimi lint --fix system.md
      cat tools.json | refrase-kimi lint - --host vllm --model kimi-k2-0905-preview
      refrase-kimi lint --sarif prompts/*.md > findings.sarif
    """
    from refrase_integrations.cli.lint.sarif import sarif_log
    from refrase_integrations.cli.lint.subjects import Surroundings, known_rules, read_subject

    left_out = frozenset(ignore or ())
    if unknown := sorted(left_out - known_rules()):
        raise ConfigurationError(f"--ignore {unknown[0]}: no such rule; known: {', '.join(sorted(known_rules()))}")
    if fix and STDIN in files and (as_json or sarif):
        raise ConfigurationError("--fix writes the mended text of - to stdout: leave --json and --sarif out")
    around = Surroundings.of(model, host, [name.strip() for name in bound.split(",")] if bound else None)
    subjects: list[Subject] = []
    mended: dict[str, str] = {}
    for file in files:
        subject = read_subject(file, read_file(file), kind.value, around)
        if fix and (now := subject.fixed()) != subject.text:
            mended[file] = f"{subject.saving()}"
            if file != STDIN:
                write_file(file, now)
            subject = read_subject(file, now, kind.value, around)
        subjects.append(subject)
    found = [problem for subject in subjects for problem in subject.problems() if problem.rule not in left_out]
    if as_json:
        print_json({"findings": [problem.as_dict() for problem in found], "fixed": sorted(mended)})
    elif sarif:
        print_json(sarif_log(found, [_address(file) for file in files]))
    else:
        _print(subjects, found, mended, fix=fix)
    raise typer.Exit(1 if found else 0)


def _print(subjects: Sequence[Subject], found: Sequence[Problem], mended: dict[str, str], *, fix: bool) -> None:
    piped = fix and any(subject.file == STDIN for subject in subjects)
    for subject in subjects:
        if piped and subject.file == STDIN:
            typer.echo(subject.text, nl=False)
    for problem in found:
        typer.echo(f"{problem.file}:{problem}", err=piped)
    for file, saving in mended.items():
        typer.echo(f"{file}: mended ({saving})", err=piped)
    if not fix:
        for subject in subjects:
            if subject.fixed() != subject.text:
                typer.echo(f"{subject.file}: --fix would mend it ({subject.saving()})")
    if piped:
        typer.echo(f"{len(found)} findings", err=True)
    else:
        print_text(f"{len(found)} finding{'' if len(found) == 1 else 's'} in {len(subjects)} file(s)")


def _address(file: str) -> str:
    return "stdin" if file == STDIN else Path(file).as_posix()
