"""Where a request goes and with which key; the registry of SDK clients.

The host is resolved first, then only that host's own variables are read. Nothing here opens a connection or builds
a TLS context before the first request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from refrase_integrations.client.transport import Transport
from refrase_integrations.errors import ConfigurationError, MissingKey, UnsupportedProtocol
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.kimi.catalogue.addresses import is_private
from refrase_integrations.kimi.catalogue.profile import HostProfile
from refrase_integrations.kimi.inputs import kind_of, text

if TYPE_CHECKING:
    import openai

PLACEHOLDER_KEY = "not-needed"
"""Sent to self-hosted servers, which ask for none: the SDK insists on a key."""
_MOST_CLIENTS = 64
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TIMES = ("connect", "read", "write", "pool")


class _Secret(str):
    """A key that no repr shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


@dataclass(frozen=True, eq=False)
class Connection:
    """Settings of one connection; equal settings share one client."""

    host: HostProfile = field(repr=False)
    base_url: str
    api_key: str = field(repr=False)
    timeout: Any = None
    """Of one request: seconds, or the SDK's own Timeout; None: the client's own (the SDK's: 600 s, 5 s to connect)."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    http_client: Any = field(default=None, repr=False)
    """A custom HTTP client of the user's, of the line the installed SDK rides on. It stays the user's to close."""
    http_async_client: Any = field(default=None, repr=False)
    plain_stream: bool = False
    """Leave requests and the decoding of streams to the SDK."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Connection holds a key and is not pickled; build it again with connect()")

    def digest(self) -> tuple[Any, ...]:
        """Return the key of the registry: the address, and a hash of what may be secret."""
        secret = repr((str(self.api_key), self.headers, self.query)).encode("utf-8", "surrogatepass")
        return (self.base_url, hashlib.sha256(secret).digest(), id(self.http_client), id(self.http_async_client))

    def account(self) -> str:
        """Return what tells accounts apart: the address, and a hash of the key."""
        return f"{self.base_url} {hashlib.sha256(str(self.api_key).encode('utf-8', 'surrogatepass')).hexdigest()}"

    def secrets(self) -> list[str]:
        """Return what no message may repeat: the key, the values of the user's own headers and query."""
        values = [self.api_key, *(value for _, value in self.headers), *(str(value) for _, value in self.query)]
        return [value for value in values if value != PLACEHOLDER_KEY]

    def client(self) -> openai.OpenAI:
        """Return the SDK's sync client for these settings.

        Raises:
            ConfigurationError: the user's own HTTP client does not fit the installed SDK, or is closed.
        """
        return _registry.sync(self).client  # type: ignore[no-any-return]

    def transport(self) -> Transport:
        """Return the way past the SDK's machinery, on the same HTTP client; see `client`."""
        return _registry.sync(self).transport

    def async_transport(self) -> Transport:
        """Return the same over the async client; see `async_client`."""
        return _registry.of_loop(self).transport

    def async_client(self) -> openai.AsyncOpenAI:
        """Return the SDK's async client for these settings and the running event loop; see `client`."""
        return _registry.of_loop(self).client  # type: ignore[no-any-return]


def connect(
    host: str | None,
    base_url: str | None,
    api_key: str | None,
    *,
    timeout: Any = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
    http_client: Any = None,
    http_async_client: Any = None,
    plain_stream: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """Resolve host, URL and key: host first, then only that host's own variables.

    Args:
        host: id of a host of the catalogue, or None to read it from ``base_url``.
        base_url: the endpoint; None: the host's own variable, else its documented URL.
        api_key: the key; None: the host's own variables.
        timeout: seconds, or the SDK's Timeout.
        headers: further headers for each request.
        query: further query parameters for each request.
        http_client: a sync HTTP client of the user's own.
        http_async_client: an async one.
        plain_stream: leave requests and the decoding of streams to the SDK; None: where REFRASE_PLAIN_STREAM is set.
        environ: environment to read; None: the process's.

    Raises:
        ConfigurationError: the URL is missing or malformed.
        MissingKey: there is no key; names the variables that may hold it.
        UnsupportedProtocol: the host does not speak the OpenAI protocol.
    """
    environ = os.environ if environ is None else environ
    if (
        base_url is not None and not text(base_url, "base_url").strip()
    ):  # an unset variable: the key must not go to the default host
        raise ConfigurationError("base_url is empty; pass an address, or None for the host's own")
    profile = find_host(host, base_url)
    endpoint = profile.endpoint
    if endpoint.protocol != "openai":
        raise UnsupportedProtocol(
            f"host {profile.id!r} speaks the {endpoint.protocol} protocol. Build that vendor's own chat model and wrap "
            "it: with_kimi_practices(model)."
        )
    named = next((name for name in endpoint.url_env if environ.get(name)), None)
    url = base_url or (environ[named] if named else endpoint.base_url)
    if url is None:
        raise ConfigurationError(
            f"host {profile.id!r} needs base_url=, for example base_url='http://localhost:8000/v1'"
        )
    checked = _checked_url(url, "base_url" if base_url or not named else named)
    return Connection(
        host=profile,
        base_url=checked,
        api_key=_Secret(_checked_key(api_key, "api_key=") if api_key else key_of(profile, checked, environ)),
        timeout=_checked_timeout(timeout),
        headers=tuple(sorted(_checked_header(*item) for item in (headers or {}).items())),
        query=tuple(sorted(_checked_parameter(*item) for item in (query or {}).items() if item[1] is not None)),
        http_client=http_client,
        http_async_client=http_async_client,
        plain_stream=bool(environ.get("REFRASE_PLAIN_STREAM")) if plain_stream is None else plain_stream,
    )


def key_of(profile: HostProfile, url: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the key of a host from its own variables; a placeholder where it wants none.

    Args:
        profile: the host.
        url: where the key will be sent.
        environ: environment to read; None: the process's.

    Raises:
        MissingKey: none of the variables is set; names them.
        ConfigurationError: the key would travel in clear text, or is none.
    """
    endpoint, environ = profile.endpoint, os.environ if environ is None else environ
    for name in endpoint.key_env:
        key = environ.get(name)
        if key:
            if url.startswith("http://") and not _private(url):
                raise ConfigurationError(
                    f"base_url is plain http: the key of {name} would travel in clear text. Use https://, or pass "
                    "api_key= if that is meant."
                )
            return _checked_key(key, name)
    if endpoint.keyless:
        return PLACEHOLDER_KEY
    names = " or ".join(endpoint.key_env)
    where = f"set {names} in the environment, or pass api_key=" if names else "pass api_key="
    raise MissingKey(f"no API key for host {profile.id!r} ({url}): {where}.")


_private = lru_cache(maxsize=256)(is_private)


@lru_cache(maxsize=256)
def _checked_url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigurationError(f"{where} is not a URL, for example https://api.moonshot.ai/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        raise ConfigurationError(f"{where} must start with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{where} must not carry credentials; pass api_key= instead")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{where} must not carry a query or fragment; pass default_query= instead")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{where} holds characters that no URL takes; check how it was pasted")
    return url.rstrip("/")


def _checked_key(key: str, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"{where} must be a text, not {type(key).__name__}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{where} holds white space or characters that no HTTP header takes; check how the key was pasted"
        )
    return key


def _checked_timeout(timeout: Any) -> Any:
    if timeout is None or all(hasattr(timeout, name) for name in _TIMES):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
        raise ConfigurationError(f"timeout must be seconds above 0, or an openai.Timeout, not {kind_of(timeout)}")
    return timeout


def _checked_parameter(name: str, value: Any) -> tuple[str, Any]:
    if not isinstance(name, str) or not _is_utf8(name):
        raise ConfigurationError(f"default_query: a name must be a text, not {type(name).__name__}")
    if not isinstance(value, (str, int, float)) or (isinstance(value, str) and not _is_utf8(value)):
        raise ConfigurationError(f"default_query: the value of {name} must be text, number or bool")
    return name, value


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _checked_header(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise ConfigurationError("default_headers: a name is no HTTP header name: letters, digits and '-' only")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
        raise ConfigurationError(
            f"default_headers: the value of {name} must be printable ASCII text without a line break or outer space"
        )
    return name, value


def close() -> None:
    """Close every sync client of this process; later calls open new ones. HTTP clients of the user's stay open."""
    _registry.close()


async def aclose() -> None:
    """Close every async client of the running event loop, and every sync one.

    A loop that ends as `asyncio.run` ends it closes its clients itself.
    """
    await _registry.aclose()


class _Held(NamedTuple):
    client: Any
    """The SDK's."""
    transport: Transport
    release: Callable[[], Any]
    """Closes the HTTP client under it, where that is ours."""


class _OfLoop:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self.held: OrderedDict[tuple[Any, ...], _Held] = OrderedDict()
        # An event loop closes the async generators that were started on it before it ends (asyncio.run, uvicorn,
        # pytest-asyncio ...): only so can sockets be closed in good order, without asking the user for it.
        self.end = self._until_the_end()
        with suppress(StopIteration):  # it stands at its yield then
            self.end.__anext__().send(None)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            held, self.held = self.held, OrderedDict()
            for one in held.values():
                release = one.release()
                if release is not None:
                    await release


class _Registry:
    """Bounded, process-wide: one sync client a connection, one async client a connection and event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sync: OrderedDict[tuple[Any, ...], _Held] = OrderedDict()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = weakref.WeakKeyDictionary()
        self._tls: ssl.SSLContext | None = None
        self._inherited: Any = None

    def sync(self, connection: Connection) -> _Held:
        digest = connection.digest()
        with self._lock:
            return self._held(self._sync, digest, lambda: self._new_sync(connection))

    def of_loop(self, connection: Connection) -> _Held:
        loop, digest = asyncio.get_running_loop(), connection.digest()
        with self._lock:
            for dead in [known for known in self._loops if known.is_closed()]:
                del self._loops[dead]
            clients = self._loops.get(loop)
            if clients is None:
                clients = self._loops[loop] = _OfLoop()
            return self._held(clients.held, digest, lambda: self._new_async(connection))

    @staticmethod
    def _held(known: OrderedDict[tuple[Any, ...], _Held], digest: tuple[Any, ...], new: Callable[[], _Held]) -> _Held:
        one = known.get(digest)
        if one is None or one.client.is_closed():
            one = known[digest] = new()
            if len(known) > _MOST_CLIENTS:
                known.popitem(last=False)  # its HTTP client is closed once no request and no stream uses it
        known.move_to_end(digest)
        return one

    def _new_sync(self, connection: Connection) -> _Held:
        import openai

        own = connection.http_client
        http = openai.DefaultHttpxClient(verify=self._context(openai.DefaultHttpxClient)) if own is None else own
        client = _build(openai.OpenAI, connection, http, "http_client")
        transport = Transport(client, http, own=own is not None)
        if own is not None:
            return _Held(client, transport, _nothing)
        release = weakref.finalize(client, http.close)
        release.atexit = False
        return _Held(client, transport, release)

    def _new_async(self, connection: Connection) -> _Held:
        import openai

        own = connection.http_async_client
        http = (
            openai.DefaultAsyncHttpxClient(verify=self._context(openai.DefaultAsyncHttpxClient)) if own is None else own
        )
        client = _build(openai.AsyncOpenAI, connection, http, "http_async_client")
        transport = Transport(client, http, own=own is not None)
        if own is not None:
            return _Held(client, transport, _nothing)
        forgotten = weakref.finalize(client, _close_on, weakref.ref(asyncio.get_running_loop()), http)
        forgotten.atexit = False

        def release() -> Any:
            forgotten.detach()
            return http.aclose()

        return _Held(client, transport, release)

    def _context(self, client_type: type) -> ssl.SSLContext:
        """Return the one TLS context: the default of the HTTP library under the SDK (httpx or httpx2), made once."""
        if self._tls is None:
            library = sys.modules[client_type.__mro__[1].__module__.partition(".")[0]]
            self._tls = library.create_ssl_context()
        return self._tls

    def close(self) -> None:
        with self._lock:
            known, self._sync = list(self._sync.values()), OrderedDict()
        for one in known:
            one.release()

    async def aclose(self) -> None:
        self.close()
        with self._lock:
            clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.end.aclose()

    def reset_after_fork(self) -> None:
        # The parent's sockets and lock must not be shared. Its clients are kept, so that no finaliser of the child
        # speaks on a connection that the parent still uses.
        inherited = (self._sync, self._loops, self._inherited)
        self.__init__()  # type: ignore[misc]
        self._inherited = inherited


def _nothing() -> None:
    """Release nothing: the HTTP client is the user's."""


def _close_on(loop_ref: weakref.ref[asyncio.AbstractEventLoop], http: Any) -> None:
    loop = loop_ref()
    if loop is not None and loop.is_running():
        asyncio.run_coroutine_threadsafe(http.aclose(), loop)


def _build(client_type: Any, connection: Connection, http_client: Any, name: str) -> Any:
    if getattr(http_client, "is_closed", False):
        raise ConfigurationError(f"{name} is closed: pass an open one, or none")
    headers = dict(connection.headers)
    try:
        client = client_type(
            api_key=str(connection.api_key),
            base_url=connection.base_url,
            max_retries=0,  # our own policy knows the typed error; the SDK would retry an exhausted quota
            default_headers=headers,
            default_query=dict(connection.query) or None,
            http_client=http_client,
            webhook_secret="",
        )
    except (TypeError, AttributeError):
        kind = f"{type(http_client).__module__}.{type(http_client).__qualname__}"
        raise ConfigurationError(
            f"{name} ({kind}) does not fit the installed openai SDK: 3.x takes httpx2 clients, 2.x httpx clients; "
            "http_client is a sync one, http_async_client an async one."
        ) from None
    # The SDK also reads OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY and OPENAI_CUSTOM_HEADERS: none of them
    # is this host's business.
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = headers
    return client


_registry = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.reset_after_fork)
