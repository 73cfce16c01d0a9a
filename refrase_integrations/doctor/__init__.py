"""Live probes of a host: what of Kimi's documented behaviour it keeps, and what a client has to know about it.

    patient = connect("vllm", "http://localhost:8000/v1", None)
    examination = asyncio.run(examine(patient, "moonshotai/Kimi-K2.6"))

Each probe is a small request or a few; `plan` says beforehand how many and what they may cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from refrase_integrations.client.connection import Connection
from refrase_integrations.doctor.findings import Finding, Verdict, order
from refrase_integrations.doctor.patient import Patient
from refrase_integrations.doctor.probes import PROBES, Seen
from refrase_integrations.kimi.catalogue import find_model
from refrase_integrations.kimi.dialect import Dialect, compile_dialect

__all__ = ["Examination", "Finding", "Plan", "Verdict", "examine", "plan"]

_IN, _OUT = 300, 250
"""Tokens of a usual probe, in and out: what a short question with a tool takes while the model thinks."""
_LONG = 1_400
"""Tokens in and out of the one long answer, and in of each of the four long prompts."""


class Plan(NamedTuple):
    """What an examination takes."""

    requests: int
    tokens_in: int
    tokens_out: int
    """Both estimated."""
    dollars: float | None
    """At the catalogue's prices; None: no price of this model on this host is known."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found on a host."""

    model: str
    """As the host was asked for it."""
    base_url: str
    dialect: Dialect = field(repr=False)
    """What the catalogue expected: of the host that was named or recognised."""
    findings: tuple[Finding, ...]
    requests: int

    def __getitem__(self, id: str) -> Finding:
        return next(finding for finding in self.findings if finding.id == id)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is not as documented, the worst first."""
        worst: tuple[Verdict, ...] = ("broken", "lossy", "strict")
        return tuple(one for verdict in worst for one in self.findings if one.verdict == verdict)


def plan(connection: Connection, model: str, tries: int = 3) -> Plan:
    """Say what an examination takes, before anything is sent.

    Args:
        connection: where to.
        model: the model, in the host's spelling.
        tries: how often what may go wrong by chance is tried.
    """
    requests = sum(probe.requests(tries) for probe in PROBES)
    tokens_in, tokens_out = requests * _IN + 4 * _LONG, requests * _OUT + _LONG
    price = find_model(model).price(connection.host.id)
    dollars = (tokens_in * price.input + tokens_out * price.output) / 1e6 if price is not None else None
    return Plan(requests, tokens_in, tokens_out, dollars)


async def examine(
    connection: Connection,
    model: str,
    *,
    tries: int = 3,
    at_once: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Examine a model on a host.

    Args:
        connection: where to, with which key.
        model: the model, in the host's spelling.
        tries: how often what may go wrong by chance is tried: a fault of one reply in ten needs twenty tries to be
            seen nine times out of ten.
        at_once: most requests at the same time.
        progress: called with the number of requests so far and of all.

    Raises:
        HostError: the host does not answer at all, or refuses the key or the model.
    """
    profile = find_model(model)
    dialect = compile_dialect(profile, connection.host, None, model)
    total, done = plan(connection, model, tries).requests, 0

    def asked() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    patient = Patient(connection, dialect, model, asyncio.Semaphore(max(1, at_once)), asked)
    first = await patient.ask("Say hello in one word.", max_tokens=16)
    if first.error is not None:
        raise first.error
    seen, findings = Seen(), dict[str, Finding]()
    for stage in (1, 2):
        probes = [probe for probe in PROBES if probe.stage == stage]
        for found in await asyncio.gather(*(probe.run(patient, seen, tries) for probe in probes)):
            findings.update({finding.id: finding for finding in found})
    return Examination(
        model=model,
        base_url=connection.base_url,
        dialect=dialect,
        findings=tuple(sorted(findings.values(), key=lambda finding: order(finding.id))),
        requests=done,
    )
