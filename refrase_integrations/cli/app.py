"""Entry point of ``refrase-kimi``: one module per command, each a function registered here."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING

from refrase_integrations.errors import MissingExtra, RefraseError, RefraseWarning

if TYPE_CHECKING:
    import typer

WRONG = 2
"""Exit status of errors: 1 is left to findings, as linters do."""


def main() -> None:
    """Run the command line; errors of this package end it with one line and status 2, without a traceback."""
    # A command says itself what was changed and why: the library's log and warnings would say it twice.
    logging.getLogger("refrase_integrations").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore", RefraseWarning)
    try:
        create_cli()()
    except RefraseError as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(WRONG)


def create_cli() -> typer.Typer:
    """Return the command line with all its commands.

    Raises:
        MissingExtra: the extra ``cli`` is not installed.
    """
    try:
        import typer
    except ImportError:
        raise MissingExtra("the command line", "cli") from None
    from refrase_integrations.cli.catalogue import hosts, models
    from refrase_integrations.cli.demo import demo
    from refrase_integrations.cli.doctor import doctor
    from refrase_integrations.cli.explain import explain
    from refrase_integrations.cli.lint import lint
    from refrase_integrations.cli.practices import practices
    from refrase_integrations.cli.refrase import refrase
    from refrase_integrations.cli.repair import repair
    from refrase_integrations.cli.simulate import simulate

    # Pretty tracebacks would print local variables, keys among them.
    cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    cli.callback()(_refrase_kimi)
    for command in (demo, practices, models, hosts, lint, explain, repair, refrase, doctor, simulate):
        cli.command()(command)
    return cli


def _refrase_kimi() -> None:
    """Kimi K2 done right in LangChain, LangGraph and LlamaIndex."""
