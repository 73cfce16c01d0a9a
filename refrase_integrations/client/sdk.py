"""Sending a prepared request: plain dicts out of the SDK's own HTTP client.

`Transport` keeps the SDK's auth, proxies and TLS and skips what it does around each call; with ``plain_stream`` the
request goes through the SDK's ``client.post(cast_to=object)``. Neither builds the pydantic model of every chunk, where
most of the SDK's time goes. The body goes as bytes of our own, which no log shows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from refrase_integrations.client.connection import Connection
from refrase_integrations.client.deadline import Deadline, OutOfTimeError, Pace, timeouts
from refrase_integrations.client.events import (
    AsyncEventStream,
    AsyncToldEvents,
    ErrorEvent,
    EventStream,
    ToldEvents,
    is_event_stream,
    plain_streams,
)
from refrase_integrations.client.failures import answered, refused, typed, unreached
from refrase_integrations.client.passage import Passage
from refrase_integrations.client.retries import aattempts, attempts, before_resuming
from refrase_integrations.client.transport import PATH
from refrase_integrations.errors import ConnectionFailed, HostError, InvalidMessage, RequestTimedOut, StreamInterrupted
from refrase_integrations.kimi.inputs import misfit
from refrase_integrations.kimi.practice import Change, Practice, Prepared
from refrase_integrations.kimi.wire import Chunk

_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "anyio", "ssl"})

RETRIES = Practice(id="retries", statement="Tries again what may pass: overload, rate limits, connections.", sources=())
"""Not a setting (``max_retries`` is): its line in the report says how often a request was sent."""


def send(
    prepared: Prepared,
    connection: Connection,
    *,
    max_retries: int = 2,
    deadline: Deadline | None = None,
    stall_timeout: float | None = None,
    passage: Passage | None = None,
) -> Iterator[Chunk]:
    """Send a request and yield raw chunks: stream chunks, or one whole response.

    Args:
        prepared: the request. Its report gets a line where the request had to be sent more than once.
        connection: where to, with which key.
        max_retries: tries after the first one, before anything was yielded; each resumption of a broken stream so far
            (`Call.resumed`) takes one away.
        deadline: of the user's call; None: none.
        stall_timeout: longest silence of a stream, in seconds; see `timeouts`.
        passage: what each attempt passes on its way out; see `Passage.through`, which has to be around this.

    Raises:
        InvalidMessage: the request cannot be written as JSON.
        HostError: the host refused or failed; `StreamInterrupted` once something was yielded.
    """
    job = _Job.of(prepared, connection, deadline, stall_timeout, passage)
    failed, resumed = list[HostError](), prepared.call.resumed
    if resumed:
        time.sleep(max(min(before_resuming(resumed), job.deadline.left()), 0))
    job.check()
    first: Chunk
    stream: Any
    first, stream = attempts(max_retries - resumed, failed, job.deadline)(_open, job)
    watch, failure = _Watch(first), None
    try:
        _note(prepared, failed)
        yield first
        if stream is not None:
            for chunk in stream:
                yield watch.seen(chunk)
            watch.over(stream)
    except Exception as error:
        failure = job.interrupted(error, watch, len(failed) + 1)
    finally:
        if stream is not None:
            stream.close()
    if failure is not None:  # raised out here, it does not carry the SDK's exception, which holds key and prompt
        raise failure


async def asend(
    prepared: Prepared,
    connection: Connection,
    *,
    max_retries: int = 2,
    deadline: Deadline | None = None,
    stall_timeout: float | None = None,
    passage: Passage | None = None,
) -> AsyncIterator[Chunk]:
    """The async twin of `send`; see there."""
    job = _Job.of(prepared, connection, deadline, stall_timeout, passage)
    failed, resumed = list[HostError](), prepared.call.resumed
    if resumed:
        await asyncio.sleep(max(min(before_resuming(resumed), job.deadline.left()), 0))
    job.check()
    first: Chunk
    stream: Any
    first, stream = await aattempts(max_retries - resumed, failed, job.deadline)(_aopen, job)
    watch, failure = _Watch(first), None
    try:
        _note(prepared, failed)
        yield first
        if stream is not None:
            async for chunk in job.deadline.each(stream):
                yield watch.seen(chunk)
            watch.over(stream)
    except Exception as error:
        failure = job.interrupted(error, watch, len(failed) + 1)
    finally:
        if stream is not None:
            await stream.close()
    if failure is not None:
        raise failure


@dataclass(frozen=True, eq=False)
class _Job:
    """One request on its way: what every attempt at it needs."""

    prepared: Prepared
    connection: Connection = field(repr=False)
    content: bytes
    deadline: Deadline
    stall: float | None
    passage: Passage | None = None

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        connection: Connection,
        deadline: Deadline | None,
        stall_timeout: float | None,
        passage: Passage | None,
    ) -> _Job:
        return cls(prepared, connection, written(prepared.body), deadline or Deadline(), stall_timeout, passage)

    def check(self) -> None:
        if self.deadline.left() <= 0:
            raise self.deadline.exceeded(0)

    def opened(self, stream: Any, timeout: Any) -> bool:
        """Take a response that has begun; tell whether it is a stream."""
        kind = stream.response.headers.get("content-type", "").lower()
        streamed = self.prepared.stream and "json" not in kind and "html" not in kind
        stall = timeout.read if streamed else None
        stream.pace = Pace(self.deadline, float("inf") if stall is None else stall)
        return streamed

    def timeout(self, client: Any) -> Any:
        """Return the SDK's Timeout of one attempt."""
        given = client.timeout if self.connection.timeout is None else self.connection.timeout
        return timeouts(given, self.deadline, self.stall, stream=self.prepared.stream)

    def refused(self, response: Any) -> HostError:
        """Return what an answer with a status other than 2xx means; its body has been read."""
        return refused(response, self.prepared.body, self.prepared.call.dialect, self.connection)

    def answered(self, status: int | None, payload: object) -> HostError:
        return answered(status, payload, self.prepared.body, self.prepared.call.dialect, self.connection)

    def known(self, error: Exception, *, reached: bool = True) -> Exception:
        """Return the typed form of what the SDK or its transport raised; anything else as it is.

        ``reached``: the host had begun to answer.
        """
        import openai

        dialect = self.prepared.call.dialect
        if isinstance(error, HostError):
            return error.with_traceback(None)  # the frames of its making hold the host's raw answer
        if isinstance(error, openai.OpenAIError):
            return typed(error, self.prepared.body, dialect, self.connection)
        if isinstance(error, _Malformed):
            return self.answered(None, {"message": str(error)})
        if isinstance(error, ErrorEvent):
            return self.answered(None, error.payload)
        if not reached and _is_transports(error):
            return unreached(error, dialect, self.connection)
        late = isinstance(error, (OutOfTimeError, TimeoutError)) or "Timeout" in type(error).__name__
        if late or _is_transports(error):
            kind = RequestTimedOut if late else ConnectionFailed
            why = str(error) if isinstance(error, OutOfTimeError) else type(error).__name__
            broke = f"the connection to {self.connection.base_url} broke ({why})"
            return kind(broke, host=dialect.host.id, model=dialect.model_id)
        if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError)):
            return self.answered(None, {"message": "the host sent what is no JSON"})
        return error

    def interrupted(self, error: Exception, watch: _Watch, attempts: int) -> Exception | None:
        """Return what an error in the middle of a stream means; None where the reply was whole by then."""
        known = self.known(error)
        if not isinstance(known, HostError):
            return known
        if watch.finished:
            detail = f"the stream broke after the end of the reply ({type(known).__name__}): usage may be missing"
            self.prepared.report.heal(RETRIES, [Change("advise", detail)])
            return None
        if isinstance(known, ConnectionFailed) and self.deadline.left() <= 0:
            return self.deadline.exceeded(attempts, known)
        return StreamInterrupted.by(known)


def _open(job: _Job) -> tuple[Chunk, Any]:
    """Open a response: a whole one to its end, a stream up to its first chunk. Until then nothing was handed out, and
    a retry is safe. The stream is None where the response is whole.

    Whole responses are read as they come, too: a host that sends one byte a second would outlive every deadline.
    """
    if job.passage is not None:
        job.passage.enter(job.deadline)
    stream = None
    try:
        transport = job.connection.transport()
        timeout = job.timeout(transport.client)
        if job.connection.plain_stream:
            stream = transport.client.post(
                PATH,
                cast_to=object,
                content=job.content,
                options={"timeout": timeout},
                stream=True,
                stream_cls=plain_streams()[0],
            )
        else:
            request = transport.request(job.content, timeout.as_dict())
            stream = EventStream(transport.send(request), transport)
        streamed = job.opened(stream, timeout)
        if not stream.response.is_success:
            stream.response.read()
            raise job.refused(stream.response)
        if streamed:
            return _first(next(stream, None), job), stream
        body = b"".join(stream.packets())
        stream.close()
        if job.prepared.stream and is_event_stream(body):
            told = ToldEvents(body)
            return _first(next(told, None), job), told
        return _whole(body, job), None
    except BaseException as error:
        body = b""  # no traceback holds what the host sent: it may repeat the key
        if stream is not None:
            stream.close()
        if not isinstance(error, Exception):
            raise
        failure = job.known(error, reached=stream is not None)
    if job.passage is not None:
        job.passage.leave(failure)
    raise failure


async def _aopen(job: _Job) -> tuple[Chunk, Any]:
    if job.passage is not None:
        await job.passage.aenter(job.deadline)
    stream: Any = None
    try:
        transport = job.connection.async_transport()
        timeout = job.timeout(transport.client)
        if job.connection.plain_stream:
            stream = await job.deadline.within(
                transport.client.post(
                    PATH,
                    cast_to=object,
                    content=job.content,
                    options={"timeout": timeout},
                    stream=True,
                    stream_cls=plain_streams()[1],
                )
            )
        else:
            request = transport.request(job.content, timeout.as_dict())
            stream = AsyncEventStream(await job.deadline.within(transport.send(request)), transport)
        streamed = job.opened(stream, timeout)
        if not stream.response.is_success:
            await job.deadline.within(stream.response.aread())
            raise job.refused(stream.response)
        if streamed:
            return _first(await job.deadline.within(anext(stream, None)), job), stream
        body = b"".join([packet async for packet in job.deadline.each(stream.packets())])
        await stream.close()
        if job.prepared.stream and is_event_stream(body):
            told = AsyncToldEvents(body)
            return _first(await anext(told, None), job), told
        return _whole(body, job), None
    except BaseException as error:
        body = b""  # no traceback holds what the host sent: it may repeat the key
        if stream is not None:
            await stream.close()
        if not isinstance(error, Exception):
            raise
        failure = job.known(error, reached=stream is not None)
    if job.passage is not None:
        job.passage.leave(failure)
    raise failure


def _is_transports(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _TRANSPORTS


class _Watch:
    """Looks at the chunks of a stream as they pass: are they chunks, and did the reply come to its end?"""

    def __init__(self, first: Chunk) -> None:
        self.finished = False
        """A finish reason came: the reply is whole."""
        self.seen(first)

    def seen(self, chunk: object) -> Chunk:
        checked = _checked(chunk)
        for choice in checked.get("choices") or ():
            if choice.get("finish_reason"):
                self.finished = True
        return checked

    def over(self, stream: Any) -> None:
        # A proxy that gives up closes the connection in good order, and half a reply looks whole. "data: [DONE]" is
        # the only mark of the end (platform.kimi.ai/docs/guide/utilize-the-streaming-output-feature-of-kimi-api);
        # hosts that leave it out at least give a finish reason.
        if not (stream.done or self.finished):
            raise _Malformed("the stream ended before the reply was finished")


class _Malformed(ValueError):
    """What the host sent is no chat completion; its text quotes nothing of it."""


def _first(chunk: object, job: _Job) -> Chunk:
    if chunk is None:
        raise _Malformed("the stream held no event")
    if isinstance(chunk, Mapping) and chunk.get("object") == "error":  # older vLLM
        raise job.answered(None, chunk)
    return _checked(chunk)


def _whole(raw: bytes, job: _Job) -> Chunk:
    answer = _parsed(raw.decode("utf-8-sig", "replace"), job)
    if isinstance(answer, Mapping) and not answer.get("choices"):
        if answer.get("error") or answer.get("object") == "error":
            raise job.answered(None, answer)
        raise _Malformed("the answer holds no choices")
    return _checked(answer)


def _parsed(text: str, job: _Job) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        pass
    if text.lstrip()[:1] == "<":  # a web page under status 200: a proxy, or an address that is not the API's
        raise job.answered(404, text)
    raise _Malformed("the answer is not JSON")


def _checked(chunk: object) -> Chunk:
    choices = chunk.get("choices") if isinstance(chunk, dict) else False
    if not isinstance(choices, list):
        if choices is not None:
            raise _Malformed("the host sent an event that is no chat completion")
        choices = []
    for choice in choices:
        said = (choice.get("delta") or choice.get("message")) if isinstance(choice, dict) else False
        if said is not None and not isinstance(said, dict):
            raise _Malformed("the host sent a choice that is none")
    return cast(Chunk, chunk)


def _note(prepared: Prepared, failed: list[HostError]) -> None:
    if failed:
        names = ", ".join(f"{type(error).__name__}{f' {error.status}' if error.status else ''}" for error in failed)
        prepared.report.heal(RETRIES, [Change("encode", f"sent {len(failed) + 1} times: first {names}")])


class _Written(bytes):
    """A body that no repr shows: openai 2.x writes the options of each request into its DEBUG log."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def written(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON, in bytes that no repr shows.

    Raises:
        InvalidMessage: it cannot be written; says where and why.
    """
    try:
        return _Written(json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (ValueError, TypeError, RecursionError):
        pass  # these name neither the place nor the cure, and quote the value
    raise InvalidMessage(misfit(body) or "the request cannot be written as JSON: it is nested too deeply")
