"""A pytest fixture, found by pytest itself: ``kimi_simulator``, a local Kimi endpoint for the tests of your own agent.

    @pytest.mark.kimi_simulator(faults="chaos")
    def test_my_agent(kimi_simulator):
        assert my_agent("What is 17 + 25?") == "42"
        print([request.faults for request in kimi_simulator.requests])

This module is loaded with every pytest run, so it imports nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from refrase_integrations.simulator import KimiSimulator

MARKER = "kimi_simulator"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    what = "arguments of the fixture's KimiSimulator, such as 'vllm', faults='chaos', script=[...], seed=1"
    config.addinivalue_line("markers", f"{MARKER}(persona='moonshot', **options): {what}")


@pytest.fixture
def kimi_simulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[KimiSimulator]:
    """A running `KimiSimulator`, fresh for each test; skips the test where the extra ``simulator`` is not installed.

    ``@pytest.mark.kimi_simulator("vllm", faults="chaos", seed=1)`` gives it arguments, at a test, a class or a module;
    the nearest one wins, argument by argument. With Moonshot's own personas ``MOONSHOT_BASE_URL`` and
    ``MOONSHOT_API_KEY`` point at it, so that code which names no address reaches it and not the real API.
    """
    from refrase_integrations.errors import MissingExtra
    from refrase_integrations.simulator import KimiSimulator

    options: dict[str, Any] = {}
    for marker in reversed([*request.node.iter_markers(MARKER)]):  # the nearest one is the last
        if len(marker.args) > 1:
            pytest.fail(f"the marker {MARKER} takes one argument without a name, the persona", pytrace=False)
        options |= {"persona": marker.args[0]} if marker.args else {}
        options |= marker.kwargs
    try:
        simulator = KimiSimulator(**options)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    with simulator:
        if simulator.host.persona.endpoints == "moonshot":
            monkeypatch.setenv("MOONSHOT_BASE_URL", simulator.base_url)
            monkeypatch.setenv("MOONSHOT_API_KEY", options.get("api_key") or "sk-simulator")
        yield simulator
