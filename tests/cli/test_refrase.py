"""``refrase``: a model's rewrite, proved; else compaction, and it says so."""

import pytest

from refrase_integrations.simulator import KimiSimulator, Reply
from tests.cli.command import failed, run, said

PROMPT = "You sell shoes.\n\n- Never share a password.\n- Be brief.\n- Never share a password.\n"
GOOD = "You sell shoes. Be brief. Never share a password."
SHORT = "You sell shoes.\n\n- Never share a password.\n- Be brief.\n"


def refrased(script, *arguments, stdin=PROMPT, **settings):
    with KimiSimulator(script=script, **settings) as simulator:
        where = ("--base-url", simulator.base_url, "--host", "moonshot", "--model", "kimi-k2.6")
        result = run("refrase", *(arguments or ("-",)), *where, stdin=stdin, MOONSHOT_API_KEY="sk-canary-4711")
        assert "canary" not in result.stdout + result.stderr
        return result, [request.body for request in simulator.requests]


def test_the_models_rewrite():
    result, bodies = refrased([GOOD])
    assert said(result) == GOOD + "\n"
    assert result.stderr.startswith("rewritten; ")
    assert "tokens; the model was asked 1 time(s)" in result.stderr
    assert PROMPT in str(bodies[0]["messages"][-1]["content"])


def test_a_rewrite_that_loses_a_rule_is_only_compacted():
    result, bodies = refrased(["You sell shoes. Share passwords."] * 2)
    assert said(result) == SHORT
    assert result.stderr.startswith("compacted: the model's rewrite did not keep everything (")
    assert len(bodies) == 2


def test_a_host_that_fails_leaves_compaction():
    result, _ = refrased([Reply(status=400, error_type="content_filter", message="considered high risk")])
    assert said(result) == SHORT
    assert "compacted: the model could not be asked (ContentFiltered" in result.stderr


def test_the_file_itself(tmp_path):
    file = tmp_path / "system.md"
    file.write_text(PROMPT)
    result, _ = refrased([GOOD], str(file), "--write")
    assert said(result) == ""
    assert file.read_text() == GOOD + "\n"


def test_a_wrong_key_is_the_users_to_mend(tmp_path):
    result, _ = refrased([GOOD], api_key="sk-other")
    assert "Check the key" in failed(result)


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["-"], " ", "nothing to rewrite"),
        (["-", "--write"], "x", "--write needs a file"),
        (["-", "--host", "openrouter"], "x", "--api-key-env"),
        (["nowhere.md"], "", "cannot be read"),
    ],
)
def test_what_the_user_did_wrong(arguments, stdin, words):
    assert words in failed(run("refrase", *arguments, stdin=stdin, OPENROUTER_API_KEY=""))
