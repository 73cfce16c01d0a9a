"""A wrapped model in a pickle, a dump, a copy or a log: canaries in every place that may hold a key; what is found again."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import Field, PrivateAttr, SecretStr

from refrase_integrations import Practices
from refrase_integrations.errors import ConfigurationError, MissingKey
from refrase_integrations.langchain import with_kimi_practices
from refrase_integrations.langchain.wrapped import WrappedChatModel
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, ask
from tests.langchain.wrapped import Remembering, chat_openai, wrapped

MOONSHOT = "https://api.moonshot.ai/v1"
CANARY = "sk-canary"
"""Every secret below opens with it."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-vendor")
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
    monkeypatch.delenv("KIMI_API_KEY", raising=False)


def openai(**fields: Any) -> ChatOpenAI:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what goes into model_kwargs
        return ChatOpenAI(**{"model": "kimi-k2.6", "base_url": MOONSHOT, "api_key": f"{CANARY}-key", **fields})


def secretive() -> Any:
    """Return a wrapped ChatOpenAI with a canary in every place where it takes one."""
    inner = openai(
        temperature=0.2,
        default_headers={
            "Authorization": f"Bearer {CANARY}-header",
            "X-Title": "mine",
            "x-odd": f"Bearer {CANARY}-odd",
        },
        default_query={"code": f"{CANARY}-query", "api-version": "7"},
        model_kwargs={"extra_headers": {"X-Api-Key": f"{CANARY}-more"}, "seed": 1},
        extra_body={"provider": {"api_key": f"{CANARY}-body", "order": ["a"]}},
    )
    bound = inner.bind(extra_headers={"authorization": f"{CANARY}-bound"}, user="me", token=f"{CANARY}-token")
    return with_kimi_practices(bound, practices=Practices(vision="warn"))


class Homemade(Remembering):
    """As users write their own: keys in plain fields, and in a private attribute."""

    base_url: str = MOONSHOT
    api_key: str = ""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    servers: list[dict[str, Any]] = Field(default_factory=list)
    auth_token: SecretStr | None = None
    client: Any = None
    about: Any = None
    _sent: dict[str, str] = PrivateAttr(default_factory=dict)


def homemade(**fields: Any) -> Any:
    given = {
        "api_key": f"{CANARY}-key",
        "model_kwargs": {"api_key": f"{CANARY}-more", "top_k": 3},
        "servers": [{"url": "https://x", "authorization_token": f"{CANARY}-server"}],
        "auth_token": f"{CANARY}-token",
        "client": {"key": f"{CANARY}-client"},
    }
    inner = Homemade(**{**given, **fields})
    inner._sent["authorization"] = f"{CANARY}-private"
    return with_kimi_practices(inner, "kimi-k2-0905-preview", "moonshot")


class Listening(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.heard += [serialized, kwargs]


def lettered() -> Any:
    """Return a model with a login in its addresses: it can be shown, and not be pickled."""
    inner = Homemade(base_url=f"https://me:{CANARY}@api.moonshot.ai/v1", about=[f"redis://:{CANARY}@x/0?db=1"])
    return with_kimi_practices(inner, "kimi-k2-0905-preview", "moonshot")


@pytest.mark.parametrize("make", [secretive, homemade, lettered])
def test_no_form_shows_a_secret(make: Any) -> None:
    model, listening = make(), Listening()
    for one in (model, model.model_copy(), copy.copy(model), copy.deepcopy(model)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LangChain's own: dict() is deprecated
            shown = [repr(one), str(one), dumps(one), dumpd(one), one.model_dump(), one.model_dump_json(), one.dict()]
        shown += [one._identifying_params, one._get_llm_string(), one.lc_attributes, one.to_json(), one.lc_secrets]
        shown += [one._get_ls_params(), *([] if make is lettered else [pickle.dumps(one)])]
        assert [form for form in map(str, shown) if CANARY in form] == []
    if make is homemade:
        model.invoke("Hello", config={"callbacks": [listening]})
        assert listening.heard
        assert CANARY not in str(listening.heard)
    assert CANARY in repr([model.inner.model_dump(), model.inner.__pydantic_private__]), "the inner model keeps its own"


def test_what_is_no_secret_is_kept() -> None:
    again = pickle.loads(pickle.dumps(secretive()))
    inner = again.inner
    assert type(again) is WrappedChatModel
    assert (type(inner), inner.temperature, inner.model_name) == (ChatOpenAI, 0.2, "kimi-k2.6")
    assert (inner.default_headers, inner.default_query) == ({"X-Title": "mine"}, {"api-version": "7"})
    assert inner.extra_body == {"provider": {"order": ["a"]}}
    assert (inner.model_kwargs, inner.seed) == ({"extra_headers": {}}, 1)
    assert again.arguments == {"extra_headers": {}, "user": "me"}
    assert Practices.of(again.practices) == Practices(vision="warn")
    assert repr(again) == "WrappedChatModel(inner='ChatOpenAI', model='kimi-k2.6', practices={'vision': 'warn'})"
    theirs = pickle.loads(pickle.dumps(homemade())).inner
    assert (theirs.model_kwargs, theirs.servers) == ({"top_k": 3}, [{"url": "https://x"}])
    assert (theirs.auth_token, theirs.client, theirs._sent) == (None, None, {})


@pytest.mark.parametrize("mode", MODES)
async def test_a_pickle_finds_the_key_of_its_host_and_no_other(mode: str, recwarn: pytest.WarningsRecorder) -> None:
    with KimiSimulator(api_key="sk-from-environment") as simulator:
        model = wrapped(simulator, api_key=f"{CANARY}-key", http_async_client=None)
        for _ in range(2):  # and so does the pickle of what came out of one
            model = pickle.loads(pickle.dumps(model))
        reply = await ask(mode, model, "Say exactly: hi")
        assert reply.text == "hi"
        assert model.inner.openai_api_key.get_secret_value() == "sk-from-environment"
    assert [str(one.message) for one in recwarn if "beta" in str(one.message)] == []


@pytest.mark.parametrize("make", [secretive, homemade])
def test_a_missing_key_is_said(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = pickle.dumps(make())
    monkeypatch.delenv("MOONSHOT_API_KEY")
    with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
        pickle.loads(frozen)


def test_azure_reads_azures_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = AzureChatOpenAI(
        azure_deployment="Kimi-K2.6",
        azure_endpoint="https://x.openai.azure.com",
        api_version="2024-10-21",
        api_key=f"{CANARY}-key",
    )
    frozen = pickle.dumps(with_kimi_practices(azure))
    assert CANARY.encode() not in frozen
    monkeypatch.setenv("AZURE_API_KEY", "sk-of-azure")
    assert pickle.loads(frozen).inner.openai_api_key.get_secret_value() == "sk-of-azure"


def test_a_server_without_keys_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = openai(base_url="http://localhost:8000/v1", model="moonshotai/Kimi-K2-Thinking")
    again = pickle.loads(pickle.dumps(with_kimi_practices(inner, host="vllm")))
    assert again.inner.openai_api_key.get_secret_value() == "not-needed"


def test_no_key_goes_to_an_address_that_came_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", MOONSHOT)
    frozen = pickle.dumps(with_kimi_practices(ChatOpenAI(model="kimi-k2.6")))
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    with pytest.raises(ConfigurationError, match=r"sent to https://api\.moonshot\.ai/v1/?; .*https://gateway\.example"):
        pickle.loads(frozen)


# -- what cannot be saved ---------------------------------------------------------------------------------


class Account:
    def __init__(self) -> None:
        self.password = "sk-canary-account"

    def token(self) -> str:
        return self.password


class Ordered(Remembering):
    def __init__(self, session: Any, **fields: Any) -> None:
        super().__init__(**fields)


class Narrow(Remembering):
    api_base: str = MOONSHOT

    def __init__(self, replies: list[AIMessage]) -> None:
        super().__init__(replies=replies, api_base="https://api.moonshot.cn/v1")


def _ask(key: str = "") -> str:
    return key


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (lambda: Homemade(about=Account()), r"its field 'about' holds a secret \(password\)"),
        (lambda: Homemade(about=[{"deep": Account()}]), r"'about' holds a secret \(password\)"),
        (lambda: Homemade(about=Account().token), r"'about' holds a secret \(password\)"),
        (lambda: Homemade(about=partial(_ask, api_key="sk-canary-4711")), r"'about' holds .* \(api_key\)"),
        (lambda: Homemade(about=lambda: 1), r"its field 'about' cannot be \(\w+\)"),
        (lambda: Homemade(api_key=f"{CANARY}-key", about=f"use {CANARY}-key"), "'about' repeats a key"),
        (lambda: Homemade(base_url=f"https://me:{CANARY}@api.moonshot.ai/v1"), "'base_url' holds a secret .a login in an address"),
        (lambda: Homemade(base_url=f"https://api.moonshot.ai/v1?api-key={CANARY}"), "'base_url' holds a secret"),
        (lambda: GenericFakeChatModel(messages=(AIMessage(word) for word in 'ab'), name="x"), r"its field 'messages' cannot be"),
        (lambda: Ordered("here", replies=[AIMessage("a")]), "constructor wants 'session', which is no field"),
        (lambda: Narrow([AIMessage("a")]), "constructor does not take its field 'api_base'"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_with_its_name(inner: Any, words: str) -> None:
    model = with_kimi_practices(inner(), "kimi-k2-0905-preview", "moonshot")
    with pytest.raises(ConfigurationError, match=rf"cannot be pickled: .*{words.removeprefix('its ')}.*") as caught:
        pickle.dumps(model)
    assert "pickle a function that returns it" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_the_wrappers_own_fields_are_judged_likewise() -> None:
    callback = Listening()
    callback.api_key = f"{CANARY}-callback"  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"'callbacks' holds a secret \(api_key\)"):
        pickle.dumps(with_kimi_practices(openai(callbacks=[callback])))


# -- dumps and copies -------------------------------------------------------------------------------------


def test_a_dump_can_be_loaded_with_the_hosts_key() -> None:
    dumped = dumpd(with_kimi_practices(openai(temperature=0.2).bind(seed=3), practices=Practices(vision="warn")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = load(
            dumped,
            allowed_objects=[WrappedChatModel, ChatOpenAI],
            valid_namespaces=["refrase_integrations"],
            secrets_map={"OPENAI_API_KEY": "sk-given"},
        )
    assert isinstance(back, WrappedChatModel)
    assert isinstance(back.inner, ChatOpenAI)
    assert (back.inner.temperature, back.arguments) == (0.2, {"seed": 3})
    assert back.inner.openai_api_key.get_secret_value() == "sk-given"  # type: ignore[union-attr]
    assert Practices.of(back.practices) == Practices(vision="warn")


def test_a_fake_can_be_copied_and_pickled() -> None:
    model: Any = with_kimi_practices(FakeListChatModel(responses=["a", "b"]), "kimi-k2-0905-preview", "moonshot")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again.invoke("Hello").text == "a"


def test_a_deep_copy_sends_with_the_same_inner_model() -> None:
    with KimiSimulator() as simulator:
        inner = chat_openai(simulator)
        model: Any = with_kimi_practices(inner, host="moonshot", practices={"vision": "warn"})
        again = copy.deepcopy({"model": model})["model"]
        assert again.inner is inner
        assert again is not model
        assert again.practices is not model.practices
        assert again.invoke("Say exactly: hi").text == "hi"


def test_a_binding_and_fallbacks_of_wrapped_models_are_saved_likewise() -> None:
    model: BaseChatModel = secretive()
    for one in (model.bind(seed=1), model.with_fallbacks([secretive()]), model.with_retry()):
        raw = pickle.dumps(one)
        assert CANARY.encode() not in raw
        assert type(pickle.loads(raw)) is type(one)
