"""``models --live`` beside a host's own list."""

import json

import pytest

from refrase_integrations.simulator import KimiSimulator
from tests.cli.command import failed, run, said

KEY = {"MOONSHOT_API_KEY": "sk-canary-4711"}


def compared(simulator, *arguments):
    where = ("models", "--live", "--host", "moonshot", "--base-url", simulator.base_url)
    return run(*where, *arguments, **KEY)


def test_a_list_that_agrees():
    with KimiSimulator("moonshot", models="live") as simulator:
        printed = said(compared(simulator))
    assert "kimi-k2.6" in printed
    assert "differs" in printed


def test_what_is_retired_and_what_is_missing(tmp_path):
    with KimiSimulator("moonshot", models=["kimi-k2.6", "kimi-k2.5"]) as simulator:
        rows = {row["model"]: row["differs"] for row in json.loads(said(compared(simulator, "--json"), status=1))}
    assert rows["kimi-k2.6"] == ""
    assert rows["kimi-k2.5"] == "the catalogue has it as retired"
    assert rows["kimi-k3"] == "not listed by the host"


def test_a_window_of_its_own(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[[models]]\nbase = "kimi-k2.6"\nid = "kimi-k2.6"\n[models.limits]\nwindow = 1000\n')
    # The simulator runs here, where the catalogue is as shipped.
    with KimiSimulator("moonshot", models=["kimi-k2.6"]) as simulator:
        where = ("models", "--live", "--host", "moonshot", "--base-url", simulator.base_url)
        printed = said(run(*where, REFRASE_CATALOG=str(own), **KEY), status=1)
    assert "window 262,144, the catalogue has 1,000" in printed


@pytest.mark.parametrize("persona", ["moonshot"])
def test_a_wrong_key_is_one_line_without_it(persona):
    with KimiSimulator(persona, api_key="sk-other") as simulator:
        error = failed(compared(simulator))
    assert "Check the key" in error
    assert "canary" not in error
