"""``refrase-kimi simulate``: a local Kimi endpoint in the terminal."""

from __future__ import annotations

import errno
import math
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refrase_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from refrase_integrations.simulator import Faults, KimiSimulator


def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 8000,
    persona: Annotated[str, typer.Option(help="Host to play, such as moonshot, vllm or openrouter.")] = "moonshot",
    quirk: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=VALUE, such as leak_tool_calls=0.2. Repeatable.")
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="MIX",
            help="Trouble by chance: a mix by name (chaos), NAME=PROBABILITY with commas (cut=0.1,stall=0.02), both "
            "(chaos,stall=0), or a TOML file of these. See --list-faults.",
        ),
    ] = None,
    models: Annotated[str, typer.Option(help="all, live, or model names with commas.")] = "all",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="REFRASE_SIMULATOR_API_KEY", help="The only key to accept; without it: any."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and requests give the same replies and faults.")] = 0,
    strict: Annotated[bool, typer.Option(help="Refuse what the host refuses.")] = True,
    list_quirks: Annotated[bool, typer.Option("--list-quirks", help="List personas and quirks, and end.")] = False,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="List faults and their mixes, and end.")] = False,
) -> None:
    """Serve a local Kimi endpoint with strict rules and the quirks of a real host, until Ctrl-C."""
    from refrase_integrations.simulator import KimiSimulator

    if list_quirks:
        typer.echo(_listing())
        return
    if list_faults:
        typer.echo(_fault_listing())
        return
    simulator = KimiSimulator(
        persona,
        models=models if models in {"all", "live"} else [name.strip() for name in models.split(",")],
        quirks=dict(_assignment(text) for text in quirk or []),
        faults=_faults(faults),
        api_key=api_key,
        seed=seed,
        port=port,
        strict=strict,
        keep=100,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        simulator.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(f"port {port} cannot be used: {error.strerror}") from None
        words = f"port {port} is taken; choose another with --port, or --port 0 for a free one"
        raise ConfigurationError(words) from None
    try:
        typer.echo(_welcome(simulator, open_to_all=api_key is None))
        while not stop.wait(0.5):
            pass
    finally:
        simulator.stop()


def _assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip() or "true"


def _faults(text: str | None) -> Faults:
    from refrase_integrations.simulator import Faults

    # A mix by name comes first: a file of that name is still at hand as ./chaos.
    is_file = text is not None and (text.endswith(".toml") or "/" in text)
    return Faults.read(Path(text)) if text is not None and is_file else Faults.of(text)


def _welcome(simulator: KimiSimulator, *, open_to_all: bool) -> str:
    from refrase_integrations.kimi.catalogue import DEFAULT_MODEL, find_host

    url, persona = simulator.base_url, simulator.host.persona
    served, faults = simulator.host.models, simulator.host.faults
    model = DEFAULT_MODEL if DEFAULT_MODEL in served else served[0]
    key = "any" if open_to_all else "the key of --api-key"
    host = persona.id if find_host(persona.id).endpoint.protocol == "openai" else "generic"
    meet = 1 - math.prod(1 - chance for chance in faults.chances().values())
    trouble = [f"  about {meet:.0%} of the chat requests meet faults"] if meet else []
    return "\n".join(
        (
            f"Simulating {persona.name} at {url} (Ctrl-C stops it). Replies are made up; no model answers.",
            f'  ChatKimi(model="{model}", host="{host}", base_url="{url}", api_key="{key}")',
            f'  ChatOpenAI(model="{model}", base_url="{url}", api_key="{key}")',
            f"  curl {url}/models",
            *trouble,
        )
    )


def _listing() -> str:
    from refrase_integrations.simulator import known_quirks, load_persona, persona_ids

    personas = [f"  {id:<12} {load_persona(id).name}" for id in persona_ids()]
    quirks = [f"  {quirk.name:<24} {quirk.statement}" for quirk in known_quirks().values()]
    return "\n".join(("Personas:", *personas, "Quirks:", *quirks))


def _fault_listing() -> str:
    from refrase_integrations.simulator import Faults, fault_presets

    mixes = [f"  {name:<10} {_mixed(faults)}" for name, faults in fault_presets().items()]
    fields = Faults.model_fields.items()
    faults = [f"  {name:<26} {' '.join((field.description or '').replace('`', '').split())}" for name, field in fields]
    return "\n".join(("Mixes:", *mixes, "Faults, each a probability, and their settings:", *faults))


def _mixed(faults: Faults) -> str:
    chances = faults.chances()
    if len({*chances.values()}) == 1:
        return f"each fault {next(iter(chances.values())):g}"
    return ", ".join(f"{name}={chance:g}" for name, chance in chances.items() if chance)
