"""The simulator behind real HTTP, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from refrase_integrations.errors import ConfigurationError, MissingExtra
from refrase_integrations.simulator.app import create_app
from refrase_integrations.simulator.host import Recorded, SimulatedHost
from refrase_integrations.simulator.rules import Refusal
from refrase_integrations.simulator.script import ScriptSource

if TYPE_CHECKING:
    from refrase_integrations.simulator.faults import Faults

_HOST = "127.0.0.1"
_PATIENCE = 10.0
"""Seconds that starting or stopping may take before something must be wrong."""


class KimiSimulator:
    """A local Kimi endpoint: ``with KimiSimulator() as simulator: ... simulator.base_url``.

    Also ``async with``, or `start` and `stop`. Many may run at once. A stopped one may start again, and keeps
    its port.

    Args:
        persona: the host to play: ``"moonshot"``, ``"vllm"``, ``"openrouter"`` ... (`persona_ids`).
        models: ``"all"`` (as None) serves every known model, ``"live"`` those that Moonshot itself has not
            retired; or the models to serve.
        script: replies to give, one per request, or a function of the request body (None: the useful answer).
            A request that the rules refuse uses up no reply.
        after: what follows the last scripted reply: ``"answer"`` (useful answers) or ``"error"`` (a 500).
        quirks: single quirks by name (`known_quirks`), over the persona's: ``{"leak_tool_calls": 0.5}``.
            ``{"documented": True}`` turns on all faults that were reported of the persona.
        faults: how often a chat request meets which trouble (errors, resets, broken streams, bad replies): a `Faults`,
            its fields, or text such as ``"chaos"`` or ``"cut=0.1,stall=0.02"``. `requests` says who met which.
        api_key: the only key to accept; None: any, or none.
        seed: the same seed and the same requests give the same bytes.
        port: port on the loopback interface; 0: a free one.
        strict: False: no rule is checked but that fields have the right types, and unknown models answer too.
        chunk_size: characters in a piece of streamed text, on average.
        keep: most requests to keep in `requests`.

    Raises:
        ConfigurationError: an argument is unknown or contradictory.
        MissingExtra: the extra ``simulator`` is not installed.
    """

    def __init__(
        self,
        persona: str = "moonshot",
        *,
        models: Iterable[str] | Literal["all", "live"] | None = None,
        script: ScriptSource | None = None,
        quirks: Mapping[str, Any] | None = None,
        faults: Faults | Mapping[str, Any] | str | None = None,
        api_key: str | None = None,
        seed: int = 0,
        port: int = 0,
        strict: bool = True,
        after: Literal["answer", "error"] = "answer",
        chunk_size: int = 8,
        keep: int = 10_000,
    ) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65_536:
            raise ConfigurationError("port is a whole number from 0 to 65535")
        _uvicorn()
        self.host = SimulatedHost(
            persona,
            models=models,
            script=script,
            after=after,
            quirks=quirks,
            faults=faults,
            api_key=api_key,
            seed=seed,
            strict=strict,
            chunk_size=chunk_size,
            keep=keep,
        )
        """What answers; it has no HTTP in it."""
        self._app = create_app(self.host)
        self._port = port
        self._running: _Running | None = None

    def __repr__(self) -> str:
        where = self.base_url if self._running else "not running"
        return f"KimiSimulator({self.host.persona.id!r}, {where})"

    @property
    def base_url(self) -> str:
        """Base URL for clients, such as ``http://127.0.0.1:8000/v1``.

        Raises:
            ConfigurationError: it was never started and no port was given.
        """
        if not self._port:
            raise ConfigurationError("the simulator has no address yet: start() it, or use it in a with statement")
        return f"http://{_HOST}:{self._port}/v1"

    @property
    def requests(self) -> list[Recorded]:
        """Every request so far, oldest first, without its secrets."""
        return self.host.requests

    @property
    def refusals(self) -> list[Refusal]:
        """Every refusal so far, oldest first."""
        return self.host.refusals

    def reset(self) -> None:
        """Forget all requests and start again, script and random choices included."""
        self.host.reset()

    def start(self) -> Self:
        """Start serving; return when requests are accepted.

        Raises:
            ConfigurationError: it runs already.
            OSError: the port is taken.
        """
        if self._running:
            raise ConfigurationError("the simulator runs already")
        listener = _bind(self._port)
        self._port = listener.getsockname()[1]
        self._running = _Running(self._app, listener)
        return self

    def stop(self) -> None:
        """Stop serving and drop open connections; return when the thread has ended. Safe to call again."""
        running, self._running = self._running, None
        if running:
            running.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


class _Running:
    """One run of the server, on its thread."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self._listener = listener
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._server = _server(app, self._ready)
        self._thread = threading.Thread(target=self._run, name="kimi-simulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(_PATIENCE) or self._failure:
            listener.close()
            raise RuntimeError("the simulator did not start") from self._failure

    def end(self) -> None:
        self._server.end()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that waits for the start
            self._failure = failure
        finally:
            self._listener.close()
            self._ready.set()


def _server(app: Any, ready: threading.Event) -> Any:
    """Return a uvicorn server that says when it is ready, and ends at once when told to."""
    uvicorn = _uvicorn()
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            # So that a script can have its connection dropped; see app.py.
            self.app_state = {**self.app_state, "transport": transport}
            super().connection_made(transport)

    class Server(uvicorn.Server):  # type: ignore[misc, name-defined]
        over: asyncio.Event
        loop: asyncio.AbstractEventLoop

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            self.over, self.loop = asyncio.Event(), asyncio.get_running_loop()
            await super().startup(sockets=sockets)
            ready.set()

        async def main_loop(self) -> None:
            # uvicorn's own loop looks ten times a second whether it should end; this one is told.
            await self.over.wait()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for listening in self.servers:
                listening.close()
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            if tasks := list(self.server_state.tasks):  # they see that their client is gone
                await asyncio.wait(tasks, timeout=1.0)

        def end(self) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended by itself
                self.loop.call_soon_threadsafe(self.over.set)

    # No dates in the headers: the same seed gives the same bytes. No access log: requests are recorded.
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=60,
        )
    )


def _bind(port: int) -> socket.socket:
    # The protocol has to be named: asyncio sets TCP_NODELAY only then, and without it each reply takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere the option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _uvicorn() -> ModuleType:
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("the simulator", "simulator") from None
    return uvicorn
