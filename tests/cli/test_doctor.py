"""``doctor`` as a user runs it: the table, the report, the profile, and what can go wrong."""

import json
from html.parser import HTMLParser

import pytest

from refrase_integrations.simulator import KimiSimulator
from tests.cli.command import failed, run, said

MODEL = "moonshotai/Kimi-K2.6"
QUICK = ("--tries", "1")


@pytest.fixture(scope="module")
def vllm():
    with KimiSimulator("vllm", quirks={"cut_arguments": True}) as simulator:
        yield simulator.base_url


@pytest.fixture(scope="module")
def sound():
    with KimiSimulator("generic") as simulator:
        yield simulator.base_url


class Page(HTMLParser):
    """What a browser would load, and the text that it would show."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.words, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_table_report_and_profile(vllm, tmp_path):
    html, profile = tmp_path / "report.html", tmp_path / "ours.toml"
    result = run("doctor", "--base-url", vllm, "--model", MODEL, "--html", html, "--profile", profile, *QUICK)
    printed = said(result, status=1)
    assert "small requests" in result.stderr, "what it may cost is said first"
    row = next(line for line in printed.splitlines() if "Tool arguments as a whole" in line)
    assert row.split()[0] == "broken"
    assert "cut short: 5 of 5 calls" in row
    assert "Nearest known host: vllm" in printed
    page = Page(html.read_text())
    assert page.loads == []
    assert "script" not in page.tags
    assert "cut short: 5 of 5 calls" in page.words
    assert MODEL in page.words
    assert "prefers-color-scheme: dark" in html.read_text()
    assert any(word.strip() == profile.read_text().strip() for word in page.words)
    listed = said(run("hosts", "--json", REFRASE_CATALOG=str(profile)))
    assert json.loads(listed)[-1]["thinking"]["off"] == {"chat_template_kwargs": {"thinking": False}}


def test_as_json_and_status_0_where_nothing_is_broken(sound):
    made = json.loads(said(run("doctor", "--base-url", sound, "--model", "kimi-k2.6", "--json", *QUICK)))
    assert {finding["verdict"] for finding in made["findings"]} <= {"right", "lossy"}
    assert made["requests"] > 30
    assert made["nearest"]["wrong"] == []


def test_the_key_comes_from_the_environment_and_is_never_shown(tmp_path):
    with KimiSimulator("generic", api_key="sk-canary-4711") as simulator:
        where = ("doctor", "--base-url", simulator.base_url, "--model", "kimi-k2.6")
        wrong = failed_after_note(run(*where, "--api-key-env", "OUR_KEY", OUR_KEY="sk-canary-wrong"))
        assert "canary" not in wrong
        report = tmp_path / "report.html"
        result = run(*where, "--api-key-env", "OUR_KEY", "--html", report, *QUICK, OUR_KEY="sk-canary-4711")
    everything = said(result) + result.stderr + report.read_text()
    assert "canary" not in everything
    assert 'key_env = ["OUR_KEY"]' in everything


def failed_after_note(result):
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say which host"),
        (["--base-url", "http://127.0.0.1:1/v1", "--api-key-env", "NOT_SET_4711"], "this environment variable is not set"),
        (["--base-url", "localhost:8000"], "base_url"),
        (["--host", "vlm"], "Did you mean 'vllm'"),
    ],
)  # fmt: skip
def test_what_the_user_did_wrong(arguments, words):
    assert words in failed(run("doctor", "--model", MODEL, *arguments))


def test_a_host_that_is_not_there(sound):
    assert "the connection to http://127.0.0.1:1/v1 failed" in failed_after_note(
        run("doctor", "--base-url", "http://127.0.0.1:1/v1", "--model", MODEL)
    )
    assert "Not found the model kimi-k9" in failed_after_note(run("doctor", "--base-url", sound, "--model", "kimi-k9"))


def test_a_missing_key_says_how_to_give_it():
    result = run("doctor", "--host", "openrouter", "--model", "moonshotai/kimi-k2.6", OPENROUTER_API_KEY="")
    assert "--api-key-env" in failed(result)
