"""``models`` and ``hosts`` print what the catalogue says."""

import json

import pytest

from refrase_integrations.kimi.catalogue import find_host, find_model, hosts, models
from tests.cli.command import failed, run, said


def test_models_as_a_table():
    printed = said(run("models"))
    for model in models():
        assert model.id in printed
    row = next(line for line in printed.splitlines() if line.startswith(" kimi-k3 "))
    assert f"{find_model('kimi-k3').limits.window:,}" in row
    assert "3 / 15" in row


def test_models_of_one_host():
    listed = json.loads(said(run("models", "--host", "groq", "--json")))
    assert {entry["id"] for entry in listed} == {model.id for model in models() if "groq" in model.served_by()}


def test_one_model_with_its_sources():
    printed = said(run("models", "moonshotai/kimi-k2-0905"))
    assert printed.startswith("kimi-k2-0905-preview")
    for source in find_model("kimi-k2-0905-preview").limits.source:
        assert source.address in printed
    facts = json.loads(said(run("models", "kimi-k2.6", "--json")))
    assert facts["limits"]["window"] == find_model("kimi-k2.6").limits.window


def test_hosts_as_a_table_and_as_json():
    printed = said(run("hosts"))
    for host in hosts():
        assert host.id in printed
    listed = json.loads(said(run("hosts", "--json")))
    assert [entry["id"] for entry in listed] == [host.id for host in hosts()]


def test_one_host():
    printed = said(run("hosts", "vllm"))
    assert "off.chat_template_kwargs.thinking = false" in printed
    assert "choices.instruct = auto, named, none, required" in printed
    assert all(quirk.note in printed for quirk in find_host("vllm").quirks)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("hosts", "vlm"), "Did you mean 'vllm'"),
        (("models", "gpt-5"), "Known: kimi-k2-0711-preview"),
        (("models", "--host", "nowhere"), "Unknown host 'nowhere'"),
    ],
)
def test_unknown_names(arguments, words):
    assert words in failed(run(*arguments))


def test_a_catalogue_of_ones_own(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[[hosts]]\nbase = "vllm"\nid = "our-cluster"\nname = "Our cluster"\n')
    assert "our-cluster" in said(run("hosts", REFRASE_CATALOG=str(file)))
