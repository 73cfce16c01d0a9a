"""``refrase-kimi demo``: the main job, watched: agents of both frameworks call tools on Kimi over real HTTP."""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refrase_integrations.errors import MissingExtra

if TYPE_CHECKING:
    from rich.console import Console

_PARTS = {"langgraph": "langchain", "llamaindex": "llama_index"}
"""Each part's module, which is its extra too, and the package that the extra brings."""


def demo(
    *,
    simulate: Annotated[bool, typer.Option(help="Use the local simulator even where a key is set.")] = False,
) -> None:
    """Watch agents of LangGraph and LlamaIndex call tools on Kimi, every practice applied and explained; no key needed.

    A framework that is not installed is left out.
    """
    from rich.console import Console

    from refrase_integrations.cli.demo.task import TASK
    from refrase_integrations.cli.demo.transcript import Transcript

    parts = {extra: _part(extra) for extra in _PARTS}
    if not any(parts.values()):
        raise MissingExtra("the demo", ",".join(_PARTS))
    console = Console()
    with ExitStack() as stack:
        models = _models(stack, console, simulate=simulate)
        for extra, part in parts.items():
            if part is None:
                words = f"Left out: the {extra} part. To see it: pip install 'refrase-integrations[{extra}]'"
                console.print(words, markup=False, highlight=False, soft_wrap=True)
                continue
            for title, fields in models.items():
                console.rule(f"[bold]{part.NAME} · {title}")
                console.print(f"[bold]user[/]  {TASK}")
                transcript = Transcript(console)
                transcript.close(part.run(transcript, **fields))


def _part(extra: str) -> ModuleType | None:
    """Return the module of a part; None where its framework is not installed."""
    try:
        return import_module(f"{__name__}.{extra}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0].startswith(_PARTS[extra]):
            return None
        raise


def _models(stack: ExitStack, console: Console, *, simulate: bool) -> dict[str, dict[str, Any]]:
    """Return the fields of an instruct and a thinking model, by title: on the real API where its key is set, else on
    the simulator."""
    from refrase_integrations.kimi.catalogue import DEFAULT_MODEL, models

    if os.environ.get("MOONSHOT_API_KEY") and not simulate:
        console.print(
            "[bold green]MOONSHOT_API_KEY is set:[/] this runs against Moonshot's real API and costs a little.\n"
        )
        return {
            f"{DEFAULT_MODEL}, thinking off": {"model": DEFAULT_MODEL, "thinking": False},
            f"{DEFAULT_MODEL}, thinking on": {"model": DEFAULT_MODEL, "thinking": True},
        }
    from refrase_integrations.simulator import KimiSimulator

    simulator = stack.enter_context(KimiSimulator())
    console.print(
        "[bold yellow]No key, no network:[/] this runs against a simulator of Moonshot's API at "
        f"{simulator.base_url}.\nIt is as strict as the real one; its words are made up. "
        "With MOONSHOT_API_KEY set the demo runs for real.\n"
    )
    instruct = next(
        model.id for model in models() if model.thinking.mode == "instruct" and model.hosts.get("vllm") is None
    )
    where = {"host": "moonshot", "base_url": simulator.base_url, "api_key": "simulator"}
    return {
        f"{instruct}, an instruct model": {"model": instruct, **where},
        f"{DEFAULT_MODEL}, a thinking model": {"model": DEFAULT_MODEL, **where},
    }
