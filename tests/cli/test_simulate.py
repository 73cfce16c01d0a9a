"""``refrase-kimi simulate`` as a user runs it."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

BODY = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "Hello"}]}
COMMAND = (sys.executable, "-c", "from refrase_integrations.cli.app import main; main()", "simulate")


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False, **options)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped(stop):
    arguments = ["--port", "0", "--persona", "vllm", "--quirk", "think_in_content", "--seed", "1", "--api-key", "k1"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        welcome = [process.stdout.readline() for _ in range(4)]
        url = re.search(r"http://127\.0\.0\.1:\d+/v1", welcome[0])[0]
        assert "ChatKimi(" in welcome[1]
        assert 'host="vllm"' in welcome[1]
        assert url in welcome[1]
        assert "ChatOpenAI(" in welcome[2]
        assert httpx.post(url + "/chat/completions", json=BODY).status_code == 401
        reply = httpx.post(url + "/chat/completions", json=BODY, headers={"authorization": "Bearer k1"})
        assert reply.json()["choices"][0]["message"]["content"].startswith("<think>")
        process.send_signal(stop)
        out, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert (out, errors) == ("", "")
    assert "k1" not in "".join(welcome)


@pytest.mark.parametrize("given", ["overload,overloaded=1", "FILE"])
def test_serves_with_faults(given, tmp_path):
    file = tmp_path / "bad-day.toml"
    file.write_text('preset = "chaos"\noverloaded = 1.0\nrequest_timeout = 0\nconflict = 0\n')
    arguments = ["--port", "0", "--faults", given.replace("FILE", str(file)), "--seed", "3"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        welcome = [process.stdout.readline() for _ in range(5)]
        url = re.search(r"http://127\.0\.0\.1:\d+/v1", welcome[0])[0]
        statuses = {httpx.post(url + "/chat/completions", json=BODY).status_code for _ in range(5)}
        process.send_signal(signal.SIGINT)
        process.wait(10)
    assert 429 in statuses
    assert statuses <= {408, 429}
    assert "about 100% of the chat requests meet faults" in welcome[4]


def test_lists_faults_and_their_mixes():
    result = run("--list-faults")
    assert result.returncode == 0
    assert "chaos      each fault 0.0155" in result.stdout
    assert "stall_seconds" in result.stdout


def test_help_says_what_faults_are():
    words = " ".join(run("--help", env={**os.environ, "COLUMNS": "200", "TERM": "dumb"}).stdout.split())
    assert "chaos" in words
    assert "--list-faults" in words


def test_taken_port_is_one_friendly_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "is taken" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--persona", "nobody"], "known: bedrock"),
        (["--quirk", "leak_tool_call=1"], "did you mean leak_tool_calls"),
        (["--quirk", "leak_tool_calls=often"], "probability"),
        (["--models", "gpt-5"], "unknown models gpt-5"),
        (["--faults", "caos"], "did you mean chaos"),
        (["--faults", "cut"], "needs a probability: cut=0.1"),
        (["--faults", "cut=2"], "less than or equal to 1"),
        (["--faults", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_wrong_arguments_are_one_friendly_line(arguments, words):
    result = run(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("module", "extra"), [("uvicorn", "simulator"), ("typer", "cli")])
def test_missing_extra_says_what_to_install(module, extra):
    blocked = f"import sys; sys.modules[{module!r}] = None; from refrase_integrations.cli.app import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", blocked, "simulate", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert f"refrase-integrations[{extra}]" in result.stderr
    assert "Traceback" not in result.stderr


def test_lists_personas_and_quirks():
    result = run("--list-quirks")
    assert result.returncode == 0
    assert "openrouter" in result.stdout
    assert "leak_tool_calls" in result.stdout
