"""The simulator as an ASGI application."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from refrase_integrations.errors import MissingExtra
from refrase_integrations.simulator.host import Recorded, SimulatedHost
from refrase_integrations.simulator.outcome import Outcome

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send


def create_app(host: SimulatedHost | None = None, **options: Any) -> Starlette:
    """Return an ASGI application that plays a host, to serve or to mount.

    Args:
        host: the host to play; None: ``SimulatedHost(**options)``. It is at hand as ``app.state.host``.
        options: see `SimulatedHost`.

    Raises:
        ConfigurationError: an option is wrong.
        MissingExtra: the extra ``simulator`` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Mount
    except ImportError:
        raise MissingExtra("the simulator", "simulator") from None
    playing = host or SimulatedHost(**options)
    app = Starlette(routes=[Mount("/", app=_Endpoint(playing))])
    app.state.host = playing
    return app


class _Endpoint:
    """Hands each request to the host and its response to the client."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import ClientDisconnect, Request

        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            raw = await request.body()
        except ClientDisconnect:
            return
        record, outcome = self._host.respond(
            scope["method"],
            scope["path"].removeprefix(scope.get("root_path", "")),
            query=dict(request.query_params),
            headers=dict(request.headers),
            raw=raw,
        )
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await _deliver(outcome, record, scope, send, gone)
        finally:
            gone.cancel()


async def _deliver(outcome: Outcome, record: Recorded, scope: Scope, send: Send, gone: asyncio.Future[None]) -> None:
    if await _wait(outcome.delay, gone):
        record.disconnected = True
        return
    if outcome.cut_after == 0:
        await _drop(scope, gone, reset=outcome.reset)
        return
    headers = {"content-type": outcome.media_type, **outcome.headers}
    if not outcome.streamed:
        headers["content-length"] = str(sum(len(packet) for event in outcome.events for packet in event))
    raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": outcome.status, "headers": raw_headers})
    for index, event in enumerate(outcome.events):
        if await _wait((outcome.pause if index else 0.0) + outcome.silence.get(index, 0.0), gone):
            record.disconnected = True
            return
        if outcome.cut_after is not None and not outcome.streamed:
            await send({"type": "http.response.body", "body": event[0][: len(event[0]) // 2], "more_body": True})
            await _drop(scope, gone, reset=outcome.reset)
            return
        for packet in event:
            await send({"type": "http.response.body", "body": packet, "more_body": True})
        record.sent += 1
        if index + 1 == outcome.cut_after:
            await _drop(scope, gone, reset=outcome.reset)
            return
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait(seconds: float, gone: asyncio.Future[None]) -> bool:
    """Wait, or only let others run; return whether the client has gone."""
    if seconds > 0:
        await asyncio.wait({gone}, timeout=seconds)
    else:
        await asyncio.sleep(0)
    return gone.done()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(scope: Scope, gone: asyncio.Future[None], *, reset: bool) -> None:
    """Close the connection in the middle of the response, or reset it."""
    transport = scope.get("state", {}).get("transport")
    if transport is None:
        # Served by another server than ours: an error is the only way to make it drop the connection.
        raise ConnectionAbortedError("the simulator drops this connection, as its script says")
    if reset:
        sock = transport.get_extra_info("socket")
        # Closing at once, without lingering, sends RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    await gone
