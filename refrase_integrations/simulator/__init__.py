"""A local Kimi endpoint over real HTTP: strict server-side rules, the quirks of real hosts, scripted replies.

    with KimiSimulator(persona="vllm", script=[Reply("Hello.")]) as simulator:
        client = openai.OpenAI(base_url=simulator.base_url, api_key="unused")

Needs ``pip install 'refrase-integrations[simulator]'``. Importing this package imports no HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refrase_integrations.simulator.app import create_app
from refrase_integrations.simulator.host import Recorded, SimulatedHost
from refrase_integrations.simulator.personas import Persona, load_persona, persona_ids
from refrase_integrations.simulator.quirks import Quirk, known_quirks
from refrase_integrations.simulator.script import Reply
from refrase_integrations.simulator.server import KimiSimulator

if TYPE_CHECKING:
    from refrase_integrations.simulator.faults import Faults as Faults
    from refrase_integrations.simulator.faults import fault_presets as fault_presets

__all__ = [
    "Faults",
    "KimiSimulator",
    "Persona",
    "Quirk",
    "Recorded",
    "Reply",
    "SimulatedHost",
    "create_app",
    "fault_presets",
    "known_quirks",
    "load_persona",
    "persona_ids",
]


def __getattr__(name: str) -> Any:
    if name in ("Faults", "fault_presets"):  # pydantic models, loaded where they are used
        from refrase_integrations.simulator import faults

        return getattr(faults, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
