"""The profile that the doctor writes is one that works: strict personas take what is sent by it."""

import asyncio
import tomllib
from datetime import date

import pytest

from refrase_integrations.client.connection import connect
from refrase_integrations.doctor import examine
from refrase_integrations.doctor.profile import catalogue_file, nearest
from refrase_integrations.kimi import catalogue
from refrase_integrations.kimi.catalogue.loading import parse
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, persona_ids

MODEL = "kimi-k2.6"
NEAREST = {"moonshot": "moonshot", "moonshot-cn": "moonshot", "fireworks": "fireworks", "together": "together"}
DAY = date(2026, 11, 24)
TOOLS = [
    {
        "name": "21st_weather.get",
        "description": "Get the current weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}}, "required": ["city"]},
    }
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_catalogue():
    yield
    catalogue.reload()


def examined(simulator):
    return asyncio.run(examine(connect("generic", simulator.base_url, "sk-test"), MODEL, tries=1))


@pytest.mark.parametrize("persona", persona_ids())
def test_a_conversation_by_that_profile(persona, tmp_path, monkeypatch):
    with KimiSimulator(persona) as simulator:
        seen = examined(simulator)
        file = tmp_path / "ours.toml"
        file.write_text(catalogue_file(seen, "ours", DAY))
        monkeypatch.setenv("REFRASE_CATALOG", str(file))
        catalogue.reload()
        simulator.reset()
        model = ChatKimi(model=MODEL, host="ours", api_key="sk-test")
        assert model.bind_tools(TOOLS) is not None
        messages = [("user", "What is the weather in Paris?")]
        first = model.bind_tools(TOOLS).invoke(messages)
        assert [call["name"] for call in first.tool_calls] == ["21st_weather.get"]
        answer = {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "11 degrees"}
        second = model.bind_tools(TOOLS).invoke([*messages, first, answer, ("user", "And the weather in Rome?")])
        assert second.tool_calls, "an earlier call spoils none"
        for message in (first, second):
            assert message.additional_kwargs.get("reasoning_content"), message
        quiet = ChatKimi(model=MODEL, host="ours", api_key="sk-test", thinking=False).invoke("Hello.")
        assert quiet.text
        assert not quiet.additional_kwargs.get("reasoning_content")
        assert simulator.refusals == []


@pytest.mark.parametrize("persona", NEAREST)
def test_the_nearest_known_host(persona):
    with KimiSimulator(persona) as simulator:
        match = nearest(examined(simulator))
    assert match.host == NEAREST[persona]
    assert str(match).startswith(f"{match.host} (")


def test_the_file_is_toml_and_says_what_is_broken():
    with KimiSimulator("vllm", quirks={"leak_tool_calls": True}) as simulator:
        text = catalogue_file(examined(simulator), "our-vllm", DAY, key_env="OUR_KEY")
    (host,) = tomllib.loads(text)["hosts"]
    assert parse(text, "x")["sources"]["doctor"]["as_of"] == DAY
    assert (host["id"], host["endpoint"]["key_env"]) == ("our-vllm", ["OUR_KEY"])
    assert host["thinking"]["off"] == {"chat_template_kwargs": {"thinking": False}}
    assert any("control tokens" in quirk["note"] for quirk in host["quirks"])
