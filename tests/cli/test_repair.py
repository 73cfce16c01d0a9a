"""``repair``: a stuck thread in a file goes on afterwards."""

import json

import httpx
import pytest

from refrase_integrations.simulator import KimiSimulator
from tests.cli.command import failed, run, said
from tests.failures.test_f11_interrupted_calls import CALL, MODEL, THREADS


def taken(messages):
    with KimiSimulator() as simulator:
        body = {"model": MODEL, "messages": messages, **CALL}
        return httpx.post(f"{simulator.base_url}/chat/completions", json=body).status_code


@pytest.mark.parametrize("thread", THREADS)
@pytest.mark.parametrize("form", ["list", "body", "lines"])
def test_a_strict_host_takes_it_afterwards(thread, form, tmp_path):
    messages = THREADS[thread]
    text = {
        "list": json.dumps(messages),
        "body": json.dumps({"model": MODEL, "messages": messages}),
        "lines": "".join(json.dumps(message) + "\n" for message in messages),
    }[form]
    file = tmp_path / "thread.json"
    file.write_text(text)
    assert taken(messages) == 400
    result = run("repair", "--write", file)
    assert said(result) == ""
    assert "an interrupted result stands in" in result.stderr
    now = file.read_text()
    value = [json.loads(line) for line in now.splitlines()] if form == "lines" else json.loads(now)
    assert taken(value["messages"] if form == "body" else value) == 200
    once = file.read_text()
    assert "0 change(s)" in run("repair", "--write", file).stderr
    assert file.read_text() == once


def test_printed_where_nothing_is_to_be_written():
    thread = THREADS["no answer"]
    printed = json.loads(said(run("repair", "-", stdin=json.dumps(thread))))
    assert [message["role"] for message in printed] == ["user", "assistant", "tool", "tool", "user"]
    said(run("repair", "-", "--check", stdin=json.dumps(thread)), status=1)
    said(run("repair", "-", "--check", stdin=json.dumps(printed)))


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["-"], "{", "is no JSON"),
        (["-"], '{"a": 1}', "holds no messages"),
        (["-"], '[{"content": "x"}]', "messages[0] has no role"),
        (["-"], '[{"role": "assistant", "tool_calls": 3}]', "messages[0].tool_calls"),
        (["-", "--write"], "[]", "--write needs a file"),
    ],
)
def test_what_the_user_did_wrong(arguments, stdin, words):
    assert words in failed(run("repair", *arguments, stdin=stdin))
