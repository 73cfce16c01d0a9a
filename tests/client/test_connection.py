"""Where a request goes and with which key: host first, then only that host's own variables."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from refrase_integrations.client import connection as room
from refrase_integrations.client.connection import PLACEHOLDER_KEY, aclose, close, connect
from refrase_integrations.client.sdk import asend, send
from refrase_integrations.errors import (
    CatalogueError,
    CatalogueWarning,
    ConfigurationError,
    ConnectionFailed,
    MissingKey,
    RateLimited,
    UnsupportedProtocol,
)
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.client.loopback import KEY, OK, RawServer, http, piece, request, sse
from tests.conversations import MODES, ask

Serve = Callable[..., RawServer]
HTTP = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
"""The HTTP library under the installed SDK: httpx or httpx2."""


async def _sync(prepared: Any, connection: Any) -> list[Any]:
    return list(send(prepared, connection, max_retries=0))


async def _async(prepared: Any, connection: Any) -> list[Any]:
    return [chunk async for chunk in asend(prepared, connection, max_retries=0)]


SEND = {"sync": _sync, "async": _async}

CANARY = "canary-0123456789"
OPENAI = (
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_WEBHOOK_SECRET",
)


@pytest.mark.parametrize("mode", MODES)
async def test_no_openai_variable_reaches_the_wire(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPENAI:
        monkeypatch.setenv(name, f"http://{CANARY}.invalid" if name.endswith("URL") else CANARY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"x-canary: {CANARY}")
    close()
    with KimiSimulator(script=["Yes."], api_key="sk-own") as simulator:
        model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-own")
        assert (await ask(mode, model, "Hi.")).text == "Yes."
        (request,) = simulator.requests
    assert CANARY not in str(request.headers) + str(request.query) + str(request.body)


def test_host_first_then_its_own_variables() -> None:
    environ = {"MOONSHOT_API_KEY": "sk-m", "OPENROUTER_API_KEY": "sk-o", "MOONSHOT_BASE_URL": "http://localhost:1/v1"}
    assert connect(None, None, None, environ=environ).base_url == "http://localhost:1/v1"
    router = connect("openrouter", None, None, environ=environ)
    assert (router.base_url, str(router.api_key)) == ("https://openrouter.ai/api/v1", "sk-o")
    assert str(connect("moonshot", "http://127.0.0.1:9/v1", None, environ=environ).api_key) == "sk-m"
    assert str(connect("vllm", "http://127.0.0.1:9/v1", None, environ=environ).api_key) == PLACEHOLDER_KEY
    with pytest.raises(MissingKey, match="api_key="), pytest.warns(CatalogueWarning):
        connect(None, "https://kimi.example.org/v1", None, environ=environ)
    with pytest.raises(UnsupportedProtocol, match="with_kimi_practices"):
        connect("bedrock", None, None, environ=environ)


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "api.moonshot.ai", "https://me:secret@x/v1", "https://x/v1?key=secret", "http://"]
)
def test_a_wrong_url_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        connect("moonshot", url, "sk-x", environ={})
    assert "secret" not in str(raised.value)


def test_equal_settings_share_a_client_and_keys_never_mix() -> None:
    def settings(key: str, **more: Any) -> Any:
        return connect("moonshot", None, key, environ={}, **more)

    assert settings("sk-a").client() is settings("sk-a").client()
    others = [settings("sk-b"), settings("sk-a", headers={"x": "y"})]
    clients = [one.client() for one in (settings("sk-a"), *others)]
    assert len({id(client) for client in clients}) == 3
    assert "sk-a" not in repr(settings("sk-a")) + repr(settings("sk-a").digest())
    first = settings("sk-a").client()
    close()
    assert first.is_closed()
    assert settings("sk-a").client() is not first


def test_each_event_loop_has_its_own_client() -> None:
    async def mine() -> int:
        connection = connect("moonshot", None, "sk-a", environ={})
        client = connection.async_client()
        assert connection.async_client() is client
        await aclose()
        assert client.is_closed()
        return id(connection.async_client())

    assert asyncio.run(mine())
    assert asyncio.run(mine())


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("mode", MODES)
async def test_overload_is_tried_again_and_quota_never(mode: str) -> None:
    busy = Reply(status=429, error_type="engine_overloaded_error", message="busy", headers={"retry-after-ms": "1"})
    empty = Reply(
        status=429, error_type="exceeded_current_quota_error", message="no balance", headers={"retry-after-ms": "1"}
    )
    with KimiSimulator(script=[busy, busy, "Yes."]) as simulator:
        model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-x")
        assert (await ask(mode, model, "Hi.")).text == "Yes."
        assert len(simulator.requests) == 3
    from refrase_integrations.errors import HostOverloaded, QuotaExceeded

    for reply, retries, error, tries in (
        (empty, 2, QuotaExceeded, 1),
        (busy, 0, HostOverloaded, 1),
        (busy, 2, HostOverloaded, 3),
    ):
        with KimiSimulator(script=[reply] * 4) as simulator:
            model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-x", max_retries=retries)
            with pytest.raises(error):
                await ask(mode, model, "Hi.")
            assert len(simulator.requests) == tries
    assert not issubclass(QuotaExceeded, RateLimited)


# -- variables, keys, addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_a_missing_key_is_not_taken_from_openai(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{CANARY}.invalid/v1")
    with pytest.raises(MissingKey, match="MOONSHOT_API_KEY or KIMI_API_KEY"):
        ChatKimi()
    with KimiSimulator("vllm", script=["Yes."]) as simulator:
        await ask(mode, ChatKimi(host="vllm", base_url=simulator.base_url), "Hi.")
        (seen,) = simulator.requests
    assert CANARY not in str(seen.headers) + str(seen.body)


def test_the_placeholder_is_what_a_keyless_server_gets(serve: Serve) -> None:
    server = serve(http(OK))
    list(send(request(), connect("vllm", server.base_url, None)))
    assert f"bearer {PLACEHOLDER_KEY}" in server.requests[0].lower()


def test_the_environment_is_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-one")
    assert str(connect(None, None, None).api_key) == "sk-one"
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-two")
    monkeypatch.setenv("MOONSHOT_BASE_URL", "http://localhost:1/v1/")
    again = connect(None, None, None)
    assert (str(again.api_key), again.base_url) == ("sk-two", "http://localhost:1/v1")
    monkeypatch.setenv("MOONSHOT_API_KEY", "")
    monkeypatch.setenv("KIMI_API_KEY", "sk-three")
    assert str(connect(None, None, None).api_key) == "sk-three"


ENVIRON = {"MOONSHOT_API_KEY": "sk-m", "OPENROUTER_API_KEY": "sk-o", "KIMI_API_KEY": "sk-k"}


@pytest.mark.parametrize(
    ("host", "url", "key"),
    [
        ("moonshot", "http://127.0.0.1:9/v1", "sk-m"),
        ("moonshot", "http://localhost:9/v1", "sk-m"),
        ("moonshot-cn", None, "sk-m"),
        ("kimi-code", None, "sk-k"),
        (None, "https://api.moonshot.cn/v1", "sk-m"),
        (None, "https://openrouter.ai/api/v1", "sk-o"),
        ("openrouter", "https://gateway.corp.example/openrouter", "sk-o"),
        (None, "http://10.1.2.3:8000/v1", PLACEHOLDER_KEY),
        (None, "http://kimi.internal:8000/v1", PLACEHOLDER_KEY),
        ("sglang", "https://gpu.example.com/v1", PLACEHOLDER_KEY),
    ],
)
def test_each_host_has_its_own_key(host: str | None, url: str | None, key: str) -> None:
    assert str(connect(host, url, None, environ=ENVIRON).api_key) == key


@pytest.mark.parametrize(
    "url",
    [
        "https://api.moonshot.ai.evil.example/v1",
        "https://evil.example/api.moonshot.ai/v1",
        "https://api-moonshot.ai/v1",
        "https://moonshot.ai/v1",
        "http://api.moonshot.ai/v1",
    ],
)
@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.CatalogueWarning")
def test_a_look_alike_gets_no_key(url: str) -> None:
    with pytest.raises(MissingKey, match="api_key="):
        connect(None, url, None, environ=ENVIRON)
    assert str(connect(None, url, "sk-mine", environ=ENVIRON).api_key) == "sk-mine"


def test_a_key_of_the_environment_does_not_travel_in_clear_text() -> None:
    with pytest.raises(ConfigurationError, match="MOONSHOT_API_KEY would travel in clear text"):
        connect("moonshot", "http://api.moonshot.ai/v1", None, environ=ENVIRON)
    assert connect("moonshot", "http://proxy.corp.example/v1", "sk-meant", environ=ENVIRON).base_url.startswith("http:")


@pytest.mark.parametrize(
    "key", [f"{CANARY}\n", f" {CANARY}", f"{CANARY}\u200b", f"{CANARY}é", f"{CANARY}\x00", f"a {CANARY}"]
)
def test_a_key_that_was_pasted_badly_is_told_without_the_key(key: str) -> None:
    for given, environ, where in ((key, {}, "api_key="), (None, {"MOONSHOT_API_KEY": key}, "MOONSHOT_API_KEY")):
        with pytest.raises(ConfigurationError, match=where) as raised:
            connect("moonshot", None, given, environ=environ)
        assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://x:99999/v1",
        "http://x:-1/v1",
        "http://[::1/v1",
        "https://exämple.org/v1",
        "https://x/v 1",
        "https://x/v1#a",
        "https://x:0/v1",
    ],
)
@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.CatalogueWarning")
def test_odd_urls_are_typed_errors(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        connect("moonshot", url, "sk-x", environ={})
    with pytest.raises((ConfigurationError, CatalogueError), match="base_url"):
        connect(None, url, "sk-x", environ={})
    with pytest.raises(ConfigurationError, match="MOONSHOT_BASE_URL"):
        connect(None, None, "sk-x", environ={"MOONSHOT_BASE_URL": url})


def test_a_self_hosted_server_needs_its_address() -> None:
    with pytest.raises(ConfigurationError, match="needs base_url="):
        connect("vllm", None, None, environ={})


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400, "10", True, (1, 2), {}, object()])
def test_a_timeout_is_seconds_or_the_sdks_own(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        connect("moonshot", None, "sk-x", timeout=timeout)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-a": f"{CANARY}\r\nx-b: 1"},
        {"x-a": f"{CANARY}é"},
        {"x-a": f" {CANARY}"},
        {"x a": "1"},
        {"": "1"},
        {"x-a": 5},
        {"x-a": None},
    ],
)
def test_a_header_that_cannot_be_sent_is_told_without_its_value(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="default_headers") as raised:
        connect("moonshot", None, "sk-x", headers=headers)
    assert CANARY not in str(raised.value)


async def test_headers_and_query_go_out_as_they_are(serve: Serve) -> None:
    for way in ("sync", "async"):
        server = serve(http(OK))
        query = {"api-version": "2026-01-01", "flag": True, "none": None, "n": 3}
        connection = connect("moonshot", server.base_url, KEY, headers={"X-Title": "My app"}, query=query)
        await SEND[way](request(), connection)
        assert server.requests[0].startswith("POST /v1/chat/completions?api-version=2026-01-01&flag=true&n=3 HTTP/1.1")
        assert "x-title: my app" in server.requests[0].lower()


def test_a_connection_shows_no_secret_and_is_not_pickled() -> None:
    connection = connect("moonshot", None, CANARY, headers={"x-a": CANARY}, query={"q": CANARY}, environ={})
    shown = (
        repr(connection) + str(connection) + repr(connection.digest()) + repr(connection.api_key) + repr([connection])
    )
    assert CANARY not in shown
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a key"):
            take(connection)


# -- proxies and clients of the user's own ---------------------------------------------------------------------


@pytest.fixture
def fresh() -> Any:
    close()
    yield
    close()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_proxies_of_the_environment_are_used(way: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, direct = serve(http(OK)), serve(http(OK))
    monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def ask_at(url: str) -> list[Any]:
        connection = connect("moonshot", url, KEY)
        try:
            return await SEND[way](request(), connection)
        finally:
            await aclose()

    assert await ask_at("http://kimi.test/v1") == [OK]
    assert proxy.requests[0].startswith("POST http://kimi.test/v1/chat/completions HTTP/1.1")
    assert await ask_at(direct.base_url) == [OK]
    assert (len(proxy.requests), len(direct.requests)) == (1, 1)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_proxy_that_refuses_is_a_typed_error(way: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    monkeypatch.setenv("HTTPS_PROXY", proxy.base_url.removesuffix("/v1"))
    connection = connect("moonshot", "https://kimi.test/v1", KEY)
    with pytest.raises(ConnectionFailed, match="ProxyError") as caught:
        await SEND[way](request(), connection)
    assert proxy.requests[0].startswith("CONNECT kimi.test:443")
    assert KEY not in proxy.requests[0]
    assert "proxy" in str(caught.value)
    await aclose()


async def test_a_client_of_the_users_own_is_used_and_stays_open(serve: Serve) -> None:
    server = serve(http(OK))
    own, own_async = HTTP.Client(headers={"x-own": "1"}), HTTP.AsyncClient(headers={"x-own": "2"})
    connection = connect("moonshot", server.base_url, KEY, http_client=own, http_async_client=own_async)
    list(send(request(), connection))
    assert [chunk async for chunk in asend(request(), connection)]
    assert ["x-own: 1" in server.requests[0].lower(), "x-own: 2" in server.requests[1].lower()] == [True, True]
    await aclose()
    assert not own.is_closed
    assert not own_async.is_closed
    list(send(request(), connection))
    own.close()
    await own_async.aclose()
    with pytest.raises(ConfigurationError, match="http_client is closed"):
        list(send(request(), connection))
    with pytest.raises(ConfigurationError, match="http_async_client is closed"):
        [chunk async for chunk in asend(request(), connection)]


async def test_a_client_of_another_kind_is_a_typed_error() -> None:
    for wrong in (object(), HTTP.AsyncClient()):
        with pytest.raises(ConfigurationError, match="http_client .* does not fit"):
            connect("moonshot", None, "sk-x", http_client=wrong).client()
    for wrong in (object(), HTTP.Client()):
        with pytest.raises(ConfigurationError, match="http_async_client .* does not fit"):
            connect("moonshot", None, "sk-x", http_async_client=wrong).async_client()


# -- the registry ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh")
def test_threads_share_one_client_and_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = HTTP.create_ssl_context
    monkeypatch.setattr(HTTP, "create_ssl_context", lambda *args, **kwargs: made.append(1) or real(*args, **kwargs))
    monkeypatch.setattr(room._registry, "_tls", None)
    gate = threading.Barrier(8)

    def take(number: int) -> tuple[Any, Any]:
        gate.wait()
        mine = connect("moonshot", None, "sk-shared", environ={}).client()
        asyncio.run(_touch())
        return mine, connect("moonshot", None, f"sk-{number}", environ={}).client()

    async def _touch() -> None:
        connect("moonshot", None, "sk-shared", environ={}).async_client()

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    assert len({id(shared) for shared, _ in taken}) == 1
    assert len({id(own) for _, own in taken}) == 8
    assert made == [1]


@pytest.mark.usefixtures("fresh")
def test_the_registry_is_bounded_and_what_falls_out_is_closed(serve: Serve) -> None:
    first = connect("moonshot", None, "sk-first", environ={}).client()._client
    for number in range(200):
        connect("moonshot", None, f"sk-{number}", environ={}).client()
    gc.collect()
    assert first.is_closed
    assert len(room._registry._sync) <= 64


@pytest.mark.usefixtures("fresh")
def test_a_client_that_falls_out_finishes_its_stream_first(serve: Serve) -> None:
    server = serve(sse(*[piece("x")] * 50, piece(finish="stop")))
    stream = send(request(stream=True), connect("moonshot", server.base_url, KEY))
    next(stream)
    for number in range(80):
        connect("moonshot", None, f"sk-{number}", environ={}).client()
    gc.collect()
    assert len(list(stream)) == 50


async def test_the_async_registry_is_bounded_too() -> None:
    first = connect("moonshot", None, "sk-first", environ={}).async_client()._client
    for number in range(100):
        connect("moonshot", None, f"sk-{number}", environ={}).async_client()
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0)
    assert first.is_closed
    await aclose()


def test_a_closed_loop_is_forgotten() -> None:
    loop = asyncio.new_event_loop()  # ended without the good manners of asyncio.run

    async def take() -> Any:
        return weakref.ref(connect("moonshot", None, "sk-x", environ={}).async_client())

    client = loop.run_until_complete(take())
    loop.close()
    asyncio.run(take())
    gc.collect()
    assert client() is None
    assert [known for known in room._registry._loops if known is loop] == []


def test_close_can_be_called_again_and_while_others_work() -> None:
    close()
    close()
    asyncio.run(aclose())
    connect("moonshot", None, "sk-x", environ={}).client()
    close()


FORK = """
import os, sys, threading
from refrase_integrations.client import connection as room
from refrase_integrations.client.connection import connect
mine = connect("moonshot", None, "sk-x").client()
room._registry._lock.acquire()          # another thread of the parent may hold it at the moment of the fork
child = os.fork()
if child == 0:
    theirs = connect("moonshot", None, "sk-x").client()
    os._exit(0 if theirs is not mine and not mine.is_closed() else 1)
room._registry._lock.release()
_, status = os.waitpid(child, 0)
assert connect("moonshot", None, "sk-x").client() is mine
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_clients_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_built_before_the_first_request() -> None:
    script = (
        "import sys\nfrom refrase_integrations.client.connection import connect\n"
        "connect('moonshot', None, 'sk-x')\n"
        "assert not {'openai', 'httpx', 'httpx2'} & set(sys.modules), 'too early'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
