"""The tiny server that speed is measured against: prepared bytes, in a process of its own.

The address says what it answers: ``http://127.0.0.1:PORT/KIND/CHUNKS/v1``, KIND being text, code, reasoning, tools or
arguments. It is no simulator: it reads no request beyond its length, so that nearly all the time of a call is the
client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in another process; the value is its address, without the path."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server", str(port)])
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def deltas(kind: str, chunks: int) -> list[dict[str, Any]]:
    """Return the deltas of a streamed reply."""
    if kind == "text":
        return [{"content": f"word{number} "} for number in range(chunks)]
    if kind == "code":
        pieces = ("if a", " < b:", "\n", "    print(", '"<b>"', ")\n")
        return [{"content": pieces[number % len(pieces)]} for number in range(chunks)]
    if kind == "reasoning":
        return [*({"reasoning_content": f"word{number} "} for number in range(chunks - 1)), {"content": "So."}]
    if kind == "tools":
        # A call of about 200 argument pieces, again and again, as agents write files.
        made: list[dict[str, Any]] = []
        for number in range(chunks):
            call, place = divmod(number, 200)
            function: dict[str, Any] = {"arguments": f'"k{place}": {place}, '}
            head: dict[str, Any] = {"index": call, "function": function}
            if not place:
                function["name"], function["arguments"] = "write", "{"
                head |= {"id": f"functions.write:{call}", "type": "function"}
            elif place == 199 or number == chunks - 1:
                function["arguments"] = '"end": 1}'
            made.append({"tool_calls": [head]})
        return made
    if kind == "arguments":  # one call, such as a file that an agent writes
        name, *rest = [f"line {number}\\n" for number in range(chunks)]
        head = {"index": 0, "id": "functions.write:0", "type": "function"}
        first = {**head, "function": {"name": "write", "arguments": f'{{"text": "{name}'}}
        pieces = [{"index": 0, "function": {"arguments": text}} for text in [*rest, '"}']]
        return [{"tool_calls": [piece]} for piece in [first, *pieces]]
    raise ValueError(kind)


@cache
def streamed(kind: str, chunks: int) -> bytes:
    """Return a whole HTTP response whose body is a stream, each event in an HTTP chunk of its own, as hosts send it."""

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + json.dumps({**chunk, "choices": [choice], **more}).encode() + b"\n\n"

    finish = "tool_calls" if kind in ("tools", "arguments") else "stop"
    events = [
        event({"role": "assistant", "content": ""}),
        *map(event, deltas(kind, chunks)),
        event({}, finish, usage=USAGE),
        b"data: [DONE]\n\n",
    ]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in events) + b"0\r\n\r\n"


@cache
def whole() -> bytes:
    """Return a whole HTTP response with a short reply."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes, it is."}, "finish_reason": "stop"}
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    body = json.dumps({**reply, "usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
            _, kind, chunks, *_ = head.split(b" ", 2)[1].decode().split("/")
            wanted = b'"stream":true' in body.replace(b" ", b"")
            writer.write(streamed(kind, int(chunks)) if wanted else whole())
            await writer.drain()
    writer.close()


async def _serve(port: int) -> None:
    async with await asyncio.start_server(_answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
