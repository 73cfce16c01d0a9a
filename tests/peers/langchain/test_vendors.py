"""The chat models of other packages, wrapped: which model and host they tell, and what reaches the wire.

`make peers` runs them with every package; elsewhere each test runs where its package is installed. Last seen with
langchain-openai 1.7.4, -anthropic 1.7.10, -groq 1.1.3, -fireworks 1.7.1, -together 0.4.0, -openrouter 0.2.9, -deepseek
1.1.1, -nvidia-ai-endpoints 1.5.0, -litellm 0.11.2 (litellm 1.110.2), -aws 1.9.1.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any, NamedTuple

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.langchain import ChatKimi, with_kimi_practices
from refrase_integrations.langchain.vendors import model_name_of
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, ask


class Vendor(NamedTuple):
    package: str
    name: str
    fields: dict[str, Any]
    """Those that name model and key, without an address."""
    model: str
    host: str | None
    """What the class tells without an address; None: it has to be told."""
    persona: str
    address: Callable[[str], dict[str, Any]]
    """From the simulator's URL to the fields that lead there."""
    whole: bool = True
    """The body is ChatKimi's in every field."""
    reasons: bool = True
    """Reasoning comes through and goes back."""
    streams_usage: bool = True


def _root(url: str) -> str:
    return url.removesuffix("/v1")


def _groq(url: str) -> dict[str, Any]:
    def rewrite(request: httpx.Request) -> None:  # its SDK puts /openai/v1 into every path
        request.url = request.url.copy_with(path=request.url.path.removeprefix("/openai"))

    async def rewrite_later(request: httpx.Request) -> None:
        rewrite(request)

    clients = {
        "http_client": httpx.Client(event_hooks={"request": [rewrite]}),
        "http_async_client": httpx.AsyncClient(event_hooks={"request": [rewrite_later]}),
    }
    return {"base_url": _root(url), "max_retries": 0, **clients}


K26 = "moonshotai/kimi-k2.6"
VENDORS = [
    Vendor("langchain-openai", "ChatOpenAI", {"model": "kimi-k2.6", "api_key": "k"}, "kimi-k2.6", None, "moonshot",
           lambda url: {"base_url": url, "max_retries": 0}, reasons=False),
    Vendor("langchain-deepseek", "ChatDeepSeek", {"model": "kimi-k2.6", "api_key": "k"}, "kimi-k2.6", "generic", "moonshot",
           lambda url: {"api_base": url, "max_retries": 0}),
    Vendor("langchain-groq", "ChatGroq", {"model": "moonshotai/kimi-k2-instruct-0905", "api_key": "k"},
           "kimi-k2-0905-preview", "groq", "groq", _groq, reasons=False, streams_usage=False),
    Vendor("langchain-fireworks", "ChatFireworks", {"model": "accounts/fireworks/models/kimi-k2p6", "api_key": "k"},
           "kimi-k2.6", "fireworks", "fireworks", lambda url: {"base_url": _root(url), "max_retries": 1}),
    Vendor("langchain-together", "ChatTogether", {"model": "moonshotai/Kimi-K2.6", "api_key": "k"}, "kimi-k2.6", "together",
           "together", lambda url: {"base_url": url, "max_retries": 0}, reasons=False),
    Vendor("langchain-openrouter", "ChatOpenRouter", {"model": K26, "api_key": "k"}, "kimi-k2.6", "openrouter",
           "openrouter", lambda url: {"base_url": url, "max_retries": 0}, whole=False),
    Vendor("langchain-nvidia-ai-endpoints", "ChatNVIDIA", {"model": "moonshotai/kimi-k2-thinking", "api_key": "k"},
           "kimi-k2-thinking", "nvidia", "generic", lambda url: {"base_url": url}, whole=False),
    Vendor("langchain-litellm", "ChatLiteLLM", {"model": "moonshot/kimi-k2.6", "api_key": "k"}, "kimi-k2.6", "moonshot",
           "moonshot", lambda url: {"api_base": url, "max_retries": 0}),
]  # fmt: skip


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: Any, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    found: Vendor = request.param
    return found


def built(vendor: Vendor, **fields: Any) -> BaseChatModel:
    module = pytest.importorskip(vendor.package.replace("-", "_"), reason="`make peers` runs this")
    model: BaseChatModel = getattr(module, vendor.name)(**vendor.fields, **fields)
    return model


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


@pytest.mark.filterwarnings("ignore")
def test_model_and_host_are_told(vendor: Vendor) -> None:
    model = built(vendor)
    if vendor.host is None:
        with pytest.raises(ConfigurationError, match="serves no Kimi model"):
            with_kimi_practices(model)
        return
    wrapped = with_kimi_practices(model)
    dialect, _ = wrapped._dialect(wrapped._settings(None, {}))
    assert (dialect.model.id, dialect.host.id) == (vendor.model, vendor.host)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
async def test_what_reaches_the_wire(vendor: Vendor, mode: str) -> None:
    def user_turn(reply: AIMessage) -> list[Any]:
        call = reply.tool_calls[0]
        return [
            "What is the weather in Paris?",
            reply,
            {"role": "tool", "content": "Sunny.", "tool_call_id": call["id"]},
        ]

    with KimiSimulator(vendor.persona) as simulator:
        host = vendor.host if vendor.host not in (None, "generic") else vendor.persona
        model = with_kimi_practices(built(vendor, **vendor.address(simulator.base_url)), host=host)
        kimi = ChatKimi(model=model.model_name, host=host, base_url=simulator.base_url, api_key="k")
        bodies: list[list[dict[str, Any]]] = []
        for one in (model.bind_tools([get_weather]), kimi.bind_tools([get_weather])):
            simulator.reset()
            first = await ask(mode, one, "What is the weather in Paris?")
            assert [call["args"] for call in first.tool_calls] == [{"city": "Paris"}]
            second = await ask(mode, one, user_turn(first))
            assert "Sunny" in second.text
            assert second.usage_metadata is not None or (mode in ("stream", "astream") and not vendor.streams_usage)
            assert simulator.refusals == []
            bodies.append([request.body for request in simulator.requests])
        own, kimis = bodies
        assert len(own) == len(kimis) == 2
        if vendor.whole:
            for mine, theirs in list(zip(own, kimis, strict=True))[: 2 if vendor.reasons else 1]:
                assert {key: mine.get(key) for key in theirs} == _plain(theirs, mine)
        reasoning = [message.get("reasoning_content") or message.get("reasoning") or message.get("reasoning_details")
                     for message in own[1]["messages"] if message["role"] == "assistant"]  # fmt: skip
        if vendor.reasons:
            assert first.additional_kwargs["reasoning_content"]
            assert reasoning not in ([None], [" "])


def _plain(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    """Take out of two bodies what differs by chance: the host's ids, which follow the bytes of the request."""
    ids = {
        call["id"]: own["id"]
        for message, its in zip(theirs["messages"], mine["messages"], strict=True)
        for call, own in zip(message.get("tool_calls", ()), its.get("tool_calls", ()), strict=True)
    }
    text = json.dumps(theirs)
    for id, own in ids.items():
        text = text.replace(id, own)
    plain: dict[str, Any] = json.loads(text)
    return plain


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["ainvoke", "stream"])
async def test_thinking_auto(vendor: Vendor, mode: str) -> None:
    with KimiSimulator(vendor.persona) as simulator:
        host = vendor.host if vendor.host not in (None, "generic") else vendor.persona
        model = with_kimi_practices(built(vendor, **vendor.address(simulator.base_url)), host=host, thinking="auto")
        kimi = ChatKimi(
            model=model.model_name, host=host, base_url=simulator.base_url, api_key="k", thinking="auto"
        )  # fmt: skip
        for question in ("What is the capital of Australia?", "Prove that the square root of 2 is irrational."):
            simulator.reset()
            if vendor.name == "ChatOpenRouter":  # its SDK would drop the switch
                with pytest.raises(ConfigurationError, match="cannot work through ChatOpenRouter: .* reasoning"):
                    await ask(mode, model, question)
                continue
            for one in (model, kimi):
                await ask(mode, one, question)
            assert simulator.refusals == []
            own, kimis = (request.body for request in simulator.requests)
            for switch in ("thinking", "reasoning", "chat_template_kwargs", "enable_thinking", "reasoning_effort"):
                assert own.get(switch) == kimis.get(switch), switch


@pytest.mark.filterwarnings("ignore")
def test_an_agent(vendor: Vendor) -> None:
    with KimiSimulator(vendor.persona) as simulator:
        host = vendor.host if vendor.host not in (None, "generic") else vendor.persona
        model = with_kimi_practices(built(vendor, **vendor.address(simulator.base_url)), host=host)
        agent = create_agent(model, tools=[get_weather])
        state = agent.invoke({"messages": [("user", "What is the weather in Paris?")]}, {"recursion_limit": 8})
        assert simulator.refusals == []
    assert "sunny in Paris" in state["messages"][-1].text


@pytest.mark.filterwarnings("ignore")
def test_a_pickle_finds_the_key_of_its_host(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    with KimiSimulator(vendor.persona, api_key="sk-from-environment") as simulator:
        host = vendor.host if vendor.host not in (None, "generic") else vendor.persona
        fields = {**vendor.address(simulator.base_url), "api_key": "sk-canary-4711", "name": "mine"}
        module = pytest.importorskip(vendor.package.replace("-", "_"), reason="`make peers` runs this")
        inner = getattr(module, vendor.name)(**{**vendor.fields, **fields})
        frozen = pickle.dumps(with_kimi_practices(inner, host=host))
        assert b"canary" not in frozen
        for name in find_host(host).endpoint.key_env:
            monkeypatch.setenv(name, "sk-from-environment")
        again = pickle.loads(frozen)
        assert (type(again.inner), again.inner.name, again.model_name) == (type(inner), "mine", model_name_of(inner))
        if vendor.name == "ChatGroq":  # what leads it here is an HTTP client of the user's own, which no pickle carries
            assert again.inner.groq_api_key.get_secret_value() == "sk-from-environment"
        elif find_host(host).endpoint.key_env:
            assert again.invoke("Say exactly: hi").text == "hi"


# -- Amazon Bedrock: another protocol --------------------------------------------------------------------


@pytest.fixture
def converse(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Any]]]:
    """A server of the Converse protocol that calls get_weather once, then answers."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            thought = {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
            use = {"toolUse": {"toolUseId": "tool_1", "name": "get_weather", "input": {"city": "Paris"}}}
            first = len(seen) == 1
            answer = {
                "output": {
                    "message": {"role": "assistant", "content": [thought, use if first else {"text": "Sunny."}]}
                },
                "stopReason": "tool_use" if first else "end_turn",
                "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
                "metrics": {"latencyMs": 1},
            }
            raw = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ChatBedrockConverse", "ChatBedrock"])
def test_bedrock(name: str, converse: tuple[str, list[Any]]) -> None:
    pytest.importorskip("langchain_aws", reason="`make peers` runs this")
    kind = getattr(import_module("langchain_aws"), name)
    fields = {"beta_use_converse_api": True} if name == "ChatBedrock" else {}
    told = with_kimi_practices(kind(model="moonshot.kimi-k2-thinking", **fields))
    assert told._dialect(told._settings(None, {}))[0].host.id == "bedrock"
    url, seen = converse
    inner = kind(model="moonshot.kimi-k2-thinking", endpoint_url=url, temperature=0.1, **fields)
    model = with_kimi_practices(inner, host="bedrock").bind_tools([get_weather], tool_choice="auto")
    first = model.invoke("What is the weather in Paris?")
    call = first.tool_calls[0]
    assert (call["args"], first.additional_kwargs["reasoning_content"]) == ({"city": "Paris"}, "Hm.")
    assert first.response_metadata["finish_reason"] == "tool_calls"
    second = model.invoke(["?", first, {"role": "tool", "content": "Sunny.", "tool_call_id": call["id"]}])
    assert (second.text, second.usage_metadata["total_tokens"]) == ("Sunny.", 15)
    again = pickle.loads(pickle.dumps(model.bound)).inner  # type: ignore[attr-defined]
    assert (type(again), again.endpoint_url, again.temperature) == (kind, url, 0.1)
    for body in seen:
        assert body["inferenceConfig"]["temperature"] == 1.0
        assert body["inferenceConfig"]["maxTokens"] >= 16_000
        assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "get_weather"
        assert body["system"][0]["text"]
    blocks = [block for message in seen[1]["messages"] for block in message["content"]]
    assert [next(iter(block)) for block in blocks] == ["text", "toolUse", "toolResult"]
    assert type(first) is AIMessage
