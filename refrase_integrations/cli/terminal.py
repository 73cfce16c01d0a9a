"""What the commands share: how they read a file, reach a host, and print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refrase_integrations.errors import ConfigurationError, MissingKey

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from refrase_integrations.client.connection import Connection

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead.")]
STDIN = "-"


@cache
def console() -> Console:
    """Return the console for results; narrow tables are worse than long lines where nobody looks at a terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@cache
def error_console() -> Console:
    """Return the console for notes and progress, beside the results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress() -> Progress:
    """Return a progress bar on the error stream; it shows nothing where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = error_console()
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


def read_file(name: str) -> str:
    """Return the text of a file, or of the standard input for ``-``.

    Raises:
        ConfigurationError: it cannot be read, or is no UTF-8 text.
    """
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name[:200]} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{name[:200]!r} is no name of a file") from None
    try:
        return raw.decode("utf-8-sig" if raw[:3] == b"\xef\xbb\xbf" else "utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{shown_name(name)} is no UTF-8 text (byte {error.start})") from None


def write_file(name: str, text: str) -> None:
    """Write a file as UTF-8, line ends as they are.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        Path(name).write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be written: {error.strerror}") from None


def read_json(text: str, name: str) -> Any:
    """Parse JSON; ``name`` says where it came from.

    Raises:
        ConfigurationError: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "somewhere"
        raise ConfigurationError(f"{shown_name(name)} is no JSON ({where})") from None


def shown_name(name: str) -> str:
    """Return how to call a file in a message."""
    return "the standard input" if name == STDIN else name


def open_connection(host: str | None, base_url: str | None, api_key_env: str | None) -> Connection:
    """Resolve where to ask and with which key, which comes from the environment alone.

    Args:
        host: id of a known host.
        base_url: the address.
        api_key_env: environment variable that holds the key; None: the host's own.

    Raises:
        ConfigurationError: there is no key, or the address is wrong.
    """
    from refrase_integrations.client.connection import connect

    key = None
    if api_key_env is not None:
        key = os.environ.get(api_key_env)
        if not key:
            raise ConfigurationError(f"--api-key-env {api_key_env}: this environment variable is not set")
    try:
        return connect(host, base_url, key)
    except MissingKey as error:
        words = str(error).rstrip(".")
        raise ConfigurationError(f"{words}. Here: name the variable that holds it with --api-key-env") from None


def print_json(value: Any) -> None:
    """Print a value as JSON, dates and sets included."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_text(text: str = "", style: str | None = None) -> None:
    """Print text that may hold brackets, without markup."""
    console().print(text, style=style, markup=False, soft_wrap=True)


def table(title: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; cells are texts without markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
