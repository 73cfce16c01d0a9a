"""Malformed input at every entry of the package: accepted and mended, or refused by a typed error before a request.

What a framework refuses itself is its own contract: then no frame of this package is in the traceback.
"""

from __future__ import annotations

import json
import logging
import signal
import traceback
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import refrase_integrations
import refrase_integrations.kimi.memo
from refrase_integrations.cli.app import create_cli
from refrase_integrations.errors import ConfigurationError, RefraseError
from refrase_integrations.langchain import RefraseNode, repair_messages
from refrase_integrations.simulator import KimiSimulator
from tests.malformed import BODIES, ENTRIES, HALF, JUNK, KINDS, LARGE, LARGE_ENTRIES, Entry, chat

PACKAGE = str(Path(refrase_integrations.__file__).parent)
SECONDS = 20


@pytest.fixture(scope="module")
def simulator() -> Iterator[KimiSimulator]:
    with KimiSimulator(strict=False) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Frameworks log what they are given, and half a character in a captured log breaks pytest-xdist."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@contextmanager
def no_hang() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_ours(error: BaseException) -> bool:
    """Tell whether an error came out of this package's code, or out of what it called."""
    return any(frame.filename.startswith(PACKAGE) for frame in traceback.extract_tb(error.__traceback__))


def problem(entry: Entry, value: Any, simulator: KimiSimulator) -> str | None:
    """Return what is wrong with the way in which an entry takes a value; None where nothing is."""
    sent = len(simulator.requests)
    try:
        with warnings.catch_warnings(), no_hang():
            warnings.simplefilter("ignore")
            entry.use(value, simulator.base_url)
    except RefraseError as error:
        if not 12 < len(str(error)) < 2_500:
            return f"{type(error).__name__} of {len(str(error))} characters"
        if isinstance(error, ConfigurationError) and len(simulator.requests) > sent and "Formula" not in entry.name:
            return f"a request was sent before: {error}"
    except Exception as error:  # noqa: BLE001 - whatever gets out is judged
        if is_ours(error):
            ours = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(PACKAGE)]
            return f"{type(error).__name__}: {str(error)[:100]!r} [{ours[-1].filename}:{ours[-1].lineno}]"
    return None


def test_there_are_many() -> None:
    assert len(ENTRIES) * len(JUNK) > 8_000


def test_the_judge_sees_what_gets_out(simulator: KimiSimulator) -> None:
    """An error of Python out of our code is a problem, one of a framework's own before it is none."""
    inside = Entry("inside", lambda value, url: refrase_integrations.kimi.memo.digest({1, 2}))
    assert "TypeError" in (problem(inside, None, simulator) or "")
    assert problem(Entry("outside", lambda value, url: int("x")), None, simulator) is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_nothing_gets_out_but_typed_errors(entry: Entry, simulator: KimiSimulator) -> None:
    found = {name: said for name, made in JUNK.items() if (said := problem(entry, made(), simulator)) is not None}
    assert found == {}


@pytest.mark.parametrize("entry", LARGE_ENTRIES, ids=lambda entry: entry.name)
def test_ten_megabytes(entry: Entry, simulator: KimiSimulator) -> None:
    assert problem(entry, LARGE, simulator) is None


@pytest.mark.parametrize("surface", ["ChatKimi", "RefraseNode", "repair_messages"])
def test_messages_in_any_order(surface: str, simulator: KimiSimulator) -> None:
    model = chat(simulator.base_url)
    uses = {"ChatKimi": model.invoke, "RefraseNode": RefraseNode().invoke, "repair_messages": repair_messages}
    entry = Entry(surface, lambda messages, url: uses[surface](messages))
    orders = [order for length in (1, 2, 3) for order in product(KINDS, repeat=length)]
    assert len(orders) > 300
    wrong = {order: said for order in orders if (said := problem(entry, [KINDS[kind]() for kind in order], simulator))}
    assert wrong == {}


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_the_simulator_answers_no_request_with_an_error_of_its_own(body: bytes, simulator: KimiSimulator) -> None:
    request = urllib.request.Request(f"{simulator.base_url}/chat/completions", data=body, method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Bearer sk-test")
    with pytest.raises(urllib.error.HTTPError) as caught, no_hang():
        urllib.request.urlopen(request)
    assert caught.value.code in (400, 404, 422)
    assert json.load(caught.value)["error"]["message"]


COMMANDS = [name for name in typer.main.get_command(create_cli()).commands if name != "demo"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line(command: str, simulator: KimiSimulator, tmp_path: Path) -> None:
    """Each option and argument of each command, given what does not belong there."""
    taken = simulator.base_url.rpartition(":")[2].partition("/")[0]  # `simulate` would go on for ever
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\x00\xfe" * 100)
    texts = [
        "",
        " ",
        "-1",
        "nan",
        "x",
        "x" * 100_000,
        HALF,
        "a\x00b",
        "[]",
        '{"a": NaN}',
        "{" * 5_000,
        str(binary),
        str(tmp_path),
    ]
    found = {}
    for parameter in typer.main.get_command(create_cli()).commands[command].params:  # type: ignore[attr-defined]
        option = [parameter.opts[0]] if parameter.param_type_name == "option" else []
        if getattr(parameter, "is_flag", False) or parameter.name in ("help", "port"):
            continue
        for text in texts:
            arguments = [command, *(["--port", taken] if command == "simulate" else []), *option, text]
            with no_hang():
                result = CliRunner().invoke(create_cli(), arguments)
            if not isinstance(result.exception, (RefraseError, SystemExit, type(None))):
                found[parameter.name, text[:20]] = repr(result.exception)[:200]
    assert found == {}
