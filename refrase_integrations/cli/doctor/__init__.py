"""``refrase-kimi doctor``: what a host does with Kimi, seen by asking it."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refrase_integrations.cli.terminal import (
    AsJson,
    console,
    error_console,
    open_connection,
    print_json,
    print_text,
    progress,
    table,
    write_file,
)
from refrase_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from refrase_integrations.client.connection import Connection
    from refrase_integrations.doctor import Examination, Plan

_STYLES = {"broken": "bold red", "lossy": "yellow", "strict": "cyan", "unknown": "dim", "right": "green"}


def doctor(
    *,
    base_url: Annotated[str | None, typer.Option(help="The host's address, such as http://localhost:8000/v1.")] = None,
    model: Annotated[str, typer.Option(help="The model, as the host calls it.")],
    host: Annotated[str | None, typer.Option(help="A known host: its address and key variable.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the key.")
    ] = None,
    tries: Annotated[int, typer.Option(min=1, max=50, help="How often what goes wrong by chance is tried.")] = 3,
    at_once: Annotated[int, typer.Option(min=1, max=32, help="Most requests at the same time.")] = 4,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a report to show around.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the host's profile (TOML) for REFRASE_CATALOG.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Probe a live host: what of Kimi's documented behaviour it keeps, what is strict, lossy or broken, how to use it.

    Sends some fifty small requests; what they may cost is said first. Ends with status 1 where something is broken.

    \b
    Examples:
      refrase-kimi doctor --base-url http://localhost:8000/v1 --model moonshotai/Kimi-K2.6
      refrase-kimi doctor --host openrouter --model moonshotai/kimi-k2.6 --html report.html
      refrase-kimi doctor --base-url https://kimi.example/v1 --model kimi-k2.6 --api-key-env KIMI_PROXY_KEY --tries 20
    """
    from refrase_integrations.doctor import plan
    from refrase_integrations.doctor.profile import catalogue_file, nearest

    if base_url is None and host is None:
        raise ConfigurationError("say which host: --base-url http://localhost:8000/v1, or --host openrouter")
    connection = open_connection(host, base_url, api_key_env)
    note = error_console()
    note.print(_cost(plan(connection, model, tries), connection), markup=False, style="dim")
    seen = _examined(connection, model, tries=tries, at_once=at_once)
    now = datetime.now().astimezone()
    key_env = api_key_env or (
        None if connection.host.endpoint.keyless else next(iter(connection.host.endpoint.key_env), None)
    )
    toml = catalogue_file(seen, _id(seen.base_url), now.date(), key_env)
    match = nearest(seen)
    if html is not None:
        from refrase_integrations.cli.doctor.page import page

        write_file(html, page(seen, str(match), toml, now))
    if profile is not None:
        write_file(profile, toml)
    if as_json:
        print_json(_facts(seen, match, toml))
    else:
        _print(seen, str(match), toml, written=[name for name in (html, profile) if name], show_toml=profile is None)
    raise typer.Exit(1 if any(finding.verdict == "broken" for finding in seen.findings) else 0)


def _cost(plan: Plan, connection: Connection) -> str:
    price = f"about ${plan.dollars:.3f}" if plan.dollars is not None else "no price is recorded for this model there"
    return (
        f"{connection.base_url}: about {plan.requests} small requests, some {plan.tokens_in:,} tokens in and "
        f"{plan.tokens_out:,} out: {price}."
    )


def _examined(connection: Connection, model: str, *, tries: int, at_once: int) -> Examination:
    from refrase_integrations.doctor import examine

    with progress() as bar:
        task = bar.add_task("Probing", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=max(done, total))

        return asyncio.run(examine(connection, model, tries=tries, at_once=at_once, progress=step))


def _id(base_url: str) -> str:
    """Return an id for a host of this address: its name without what all have."""
    name = re.sub(r"^https?://|[:/].*$", "", base_url)
    words = [part for part in re.split(r"[^a-z0-9]+", name.lower()) if part not in ("", "www", "api")]
    return "-".join(["my", *words]) if words else "my-host"


def _facts(seen: Examination, match: Any, toml: str) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": seen.model,
        "base_url": seen.base_url,
        "requests": seen.requests,
        "findings": [asdict(finding) for finding in seen.findings],
        "nearest": match._asdict(),
        "profile": toml,
    }


def _print(seen: Examination, match: str, toml: str, *, written: list[str], show_toml: bool) -> None:
    from rich.text import Text

    made = table(
        f"{seen.model} at {seen.base_url}", ("", "what was looked at", "what was seen", "taken care of by"), ()
    )
    for finding in (*seen.problems, *(one for one in seen.findings if one not in seen.problems)):
        style = _STYLES[finding.verdict]
        words = (Text(text) for text in (finding.title, finding.seen, finding.practice))
        made.add_row(Text(finding.verdict, style=style), *words)
    console().print(made)
    counts = ", ".join(
        f"{number} {verdict}" for verdict in _STYLES if (number := sum(one.verdict == verdict for one in seen.findings))
    )
    print_text(f"{counts} · {seen.requests} requests")
    print_text(f"Nearest known host: {match}")
    if show_toml:
        print_text(
            "\nThe host's profile, for a file named in REFRASE_CATALOG (--profile FILE writes it):", style="bold"
        )
        print_text(toml)
    for name in written:
        print_text(f"Written: {name}")
