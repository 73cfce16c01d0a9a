"""``practices``: the list, and each practice at work on its sample."""

import json

import pytest

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.practices import ORDER, tool_names
from refrase_integrations.kimi.samples import show
from tests.cli.command import failed, run, said

REFUSING = {"vision", "context-window"}
REPLIES_ONLY = {"empty-reply", "reasoning-as-answer", "tool-call-recovery"}


@pytest.mark.parametrize("practice", [practice.id for practice in ORDER])
def test_every_practice_shows_what_it_does(practice):
    shown = show(practice)
    assert shown.refused if practice in REFUSING else not shown.refused
    assert (shown.before == shown.after) is (practice in REFUSING | REPLIES_ONLY)
    assert shown.changes or shown.refused
    if practice in REPLIES_ONLY:
        assert shown.again or shown.reply_after != {
            key: value for key, value in shown.reply_before.items() if key != "role"
        }


def test_what_is_shown_is_what_the_practice_does(monkeypatch):
    monkeypatch.setattr(tool_names, "alias", lambda name, pattern: "another")
    assert show("tool-names").after["tools"][0]["function"]["name"] == "another"


def test_the_practice_of_somebody_else_has_no_sample():
    with pytest.raises(ConfigurationError, match="did you mean temperature"):
        show("temperatur")


def test_the_list():
    printed = said(run("practices"))
    for practice in ORDER:
        assert practice.id in printed
    listed = json.loads(said(run("practices", "--json")))
    assert [entry["id"] for entry in listed] == [practice.id for practice in ORDER]
    assert all(entry["sources"] for entry in listed)


def test_one_practice():
    printed = said(run("practices", "tool_call_recovery"))
    assert "MoonshotAI/Kimi-K2 docs/tool_call_guidance.md (as of 2025-07-31, grade A)" in printed
    assert '-   "content": "<|tool_calls_section_begin|>' in printed
    assert '+         "name": "weather"' in printed
    sample = json.loads(said(run("practices", "temperature", "--json")))["sample"]
    assert (sample["before"]["temperature"], sample["after"]["temperature"]) == (0.1, 0.6)


def test_a_refusal_is_shown():
    assert "VisionUnsupported" in said(run("practices", "vision"))


def test_an_unknown_practice():
    assert "did you mean temperature" in failed(run("practices", "temprature"))
