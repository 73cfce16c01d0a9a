"""A wrapped LLM in a pickle, a dict, a copy or a log: canaries in every place that may hold a key; what is found again.

LLMs of other packages are in tests/peers/llamaindex/test_wrapper.py.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.llms.mock import MockLLMWithChatMemoryOfLastCall as Mock
from pydantic import Field, PrivateAttr

from refrase_integrations import Practices
from refrase_integrations.errors import ConfigurationError, MissingKey
from refrase_integrations.llamaindex import with_kimi_practices
from refrase_integrations.llamaindex.wrapper import WrappedFunctionCallingLLM, WrappedLLM
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.homemade import Homemade

CANARY = "sk-canary"
INSTRUCT = "kimi-k2-0905-preview"
HELLO = [ChatMessage(role="user", content="Hello")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-vendor")
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
    monkeypatch.delenv("KIMI_API_KEY", raising=False)


class Secretive(Homemade):
    """Keys in every place where classes have them."""

    default_headers: dict[str, str] = Field(default_factory=dict)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    auth_token: str = ""
    about: Any = None
    _sent: dict[str, str] = PrivateAttr(default_factory=dict)


def secretive(url: str = "http://localhost:1/v1", **fields: Any) -> Any:
    inner = Secretive(
        model=INSTRUCT,
        base_url=url,
        api_key=f"{CANARY}-key",
        default_headers={"Authorization": f"Bearer {CANARY}-header", "X-Title": "mine"},
        model_kwargs={"api_key": f"{CANARY}-more", "top_k": 3, "extra_headers": {"X-Api-Key": f"{CANARY}-extra"}},
        auth_token=f"{CANARY}-token",
        **fields,
    )
    inner._sent["authorization"] = f"{CANARY}-private"
    return with_kimi_practices(inner, host="moonshot", practices={"history": "warn"})


async def test_no_form_shows_a_secret_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    llm = secretive()
    llm._sender({"temperature": 0.5})
    await asyncio.sleep(0)
    llm._sender({"temperature": 0.5})  # another one, of this event loop
    with caplog.at_level(logging.DEBUG):
        for one in (llm, llm.model_copy(), copy.copy(llm), copy.deepcopy(llm)):
            shown = [repr(one), str(one), one.to_dict(), one.to_json(), one.model_dump(), one.model_dump_json()]
            shown += [one.to_payload(), one.metadata, pickle.dumps(one), one.dict()]
            assert [form for form in map(str, shown) if CANARY in form] == []
    assert caplog.records == []
    assert repr(llm) == "WrappedFunctionCallingLLM(inner='Secretive', model='kimi-k2-0905-preview', host='moonshot', practices={'history': 'warn'})"  # fmt: skip
    assert json.loads(llm.to_json())["class_name"] == "refrase_kimi_practices"
    assert llm.inner._sent["authorization"] == f"{CANARY}-private"


def test_what_is_no_secret_is_kept_and_the_key_is_the_hosts() -> None:
    with KimiSimulator(api_key="sk-from-environment", script=["Yes."]) as simulator:
        llm: Any = secretive(simulator.base_url)
        for _ in range(2):  # and so does the pickle of what came out of one
            llm = pickle.loads(pickle.dumps(llm))
        assert llm.chat(HELLO).message.content == "Yes."
    inner = llm.inner
    assert (type(llm), type(inner)) == (WrappedFunctionCallingLLM, Secretive)
    assert (inner.model, inner.api_key, inner.auth_token) == (INSTRUCT, "sk-from-environment", "")
    assert (inner.default_headers, inner._sent) == ({"X-Title": "mine"}, {})
    assert inner.model_kwargs == {"top_k": 3, "extra_headers": {}}
    assert llm.to_dict() == secretive(simulator.base_url).to_dict()


def test_a_missing_key_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = pickle.dumps(secretive())
    monkeypatch.delenv("MOONSHOT_API_KEY")
    with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
        pickle.loads(frozen)


class Account:
    password = ""

    def __init__(self) -> None:
        self.password = f"{CANARY}-account"


class Narrow(MockLLM):
    def __init__(self, words: str) -> None:
        super().__init__(max_tokens=len(words))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: secretive(about=Account()), r"Secretive cannot be pickled: its field 'about' holds .* \(password\)"),
        (lambda: secretive(about=lambda: 1), r"Secretive cannot be pickled: its field 'about' cannot be"),
        (lambda: secretive(about=f"use {CANARY}-key"), "Secretive cannot be pickled: its field 'about' repeats a key"),
        (
            lambda: with_kimi_practices(Narrow("abc"), INSTRUCT, "moonshot"),
            "Narrow cannot be pickled: its constructor does not take its field 'max_tokens'",
        ),
    ],
)
def test_what_cannot_be_saved_is_refused_with_its_name(make: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        pickle.dumps(make())
    assert CANARY not in str(caught.value)


def test_a_dict_gives_it_back_with_the_llm_that_sends() -> None:
    inner = Mock(system_prompt="Be brief.")
    llm: Any = with_kimi_practices(inner, INSTRUCT, "moonshot", {"fresh_data": "off"})
    again = WrappedLLM.from_dict(llm.to_dict(), inner=inner)
    assert again.chat(HELLO).message.content == llm.chat(HELLO).message.content
    assert again.to_dict() == {**llm.to_dict(), "practices": again.to_dict()["practices"]}
    assert Practices.of(again.practices).fresh_data == "off"
    other = WrappedLLM.from_json(llm.to_json(), inner=Mock(), model_name="kimi-k2.6")
    assert (other.model_name, other.system_prompt) == ("kimi-k2.6", "Be brief.")
    for given in ({}, {"inner": "MockLLM"}):
        with pytest.raises(ConfigurationError, match=r"WrappedLLM\.from_dict\(data, inner=llm\)"):
            WrappedLLM.from_dict(llm.to_dict(), **given)


# -- copies -----------------------------------------------------------------------------------------------


def test_copies_send_with_the_same_llm() -> None:
    inner = Mock()
    llm: Any = with_kimi_practices(inner, INSTRUCT, "moonshot", {"system_prompt": "off"})
    llm.callback_manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    llm.chat(HELLO)
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(update={"practices": "off"})):
        assert other.inner is inner
        assert other.callback_manager is llm.callback_manager
        assert other.chat(HELLO).message.content.endswith("user: Hello\nassistant: ")
    deep = copy.deepcopy([llm])[0]
    assert deep.practices == llm.practices
    assert deep.practices is not llm.practices


@pytest.mark.parametrize("way", ["copied", "set"])
def test_another_inner_llm_sends_itself(way: str) -> None:
    """What was prepared for the first one is not taken for the second: it may hold another account's key."""
    with KimiSimulator(script=["Yes."] * 2) as first, KimiSimulator(script=["No."]) as second:
        llms = [Homemade(model=INSTRUCT, base_url=one.base_url) for one in (first, second)]
        llm: Any = with_kimi_practices(llms[0], host="moonshot")
        llm.chat(HELLO)
        if way == "copied":
            other = llm.model_copy(update={"inner": llms[1]})
        else:
            other = llm
            llm.inner = llms[1]
        assert other.chat(HELLO).message.content == "No."


def test_a_copy_reports_to_its_own_callback_manager() -> None:
    with KimiSimulator(script=["Yes."] * 3) as simulator:
        llm: Any = with_kimi_practices(Homemade(model=INSTRUCT, base_url=simulator.base_url), host="moonshot")
        debugs = [LlamaDebugHandler(print_trace_on_end=False) for _ in range(2)]
        llm.callback_manager = CallbackManager([debugs[0]])
        llm.chat(HELLO)
        other = llm.model_copy(update={"callback_manager": CallbackManager([debugs[1]])})
        other.chat(HELLO)
        assert llm._senders is not other._senders
        llm.chat(HELLO)
    assert [len(debug.get_llm_inputs_outputs()) for debug in debugs] == [2, 1]
