"""Sending a prepared request: plain dicts out of the SDK's own transport.

``client.post(cast_to=object)`` keeps the SDK's auth, proxies and timeouts and skips the pydantic model that it builds
for every chunk, which is where most of its time goes. The body goes as bytes of our own, which no log shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from refrase_integrations.client.connection import Connection
from refrase_integrations.client.events import streams
from refrase_integrations.client.failures import answered, typed
from refrase_integrations.client.retries import aattempts, attempts
from refrase_integrations.errors import ConnectionFailed, HostError, InvalidMessage, RequestTimedOut, StreamInterrupted
from refrase_integrations.kimi.practice import Change, Practice, Prepared
from refrase_integrations.kimi.wire import Chunk

_PATH = "/chat/completions"
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "anyio", "ssl"})

RETRIES = Practice(id="retries", statement="Tries again what may pass: overload, rate limits, connections.", sources=())
"""Not a setting (``max_retries`` is): its line in the report says how often a request was sent."""


def send(prepared: Prepared, connection: Connection, *, max_retries: int = 2) -> Iterator[Chunk]:
    """Send a request and yield raw chunks: stream chunks, or one whole response.

    Args:
        prepared: the request. Its report gets a line where the request had to be sent more than once.
        connection: where to, with which key.
        max_retries: tries after the first one, before anything was yielded.

    Raises:
        InvalidMessage: the request cannot be written as JSON.
        HostError: the host refused or failed; `StreamInterrupted` once something was yielded.
    """
    content, failed = _written(prepared.body), list[HostError]()
    retry = attempts(max_retries, failed)
    if not prepared.stream:
        whole: Chunk = retry(_post, prepared, connection, content)
        _note(prepared, failed)
        yield whole
        return
    first: Chunk
    stream: Any
    first, stream = retry(_open, prepared, connection, content)
    failure: Exception | None = None
    try:
        _note(prepared, failed)
        yield first
        if stream is not None:
            watch = _Watch(first)
            for chunk in stream:
                yield watch.seen(chunk)
            watch.over(stream)
    except Exception as error:
        failure = _interrupted(error, prepared, connection)
    finally:
        if stream is not None:
            stream.close()
    if failure is not None:  # raised out here, it does not carry the SDK's exception, which holds key and prompt
        raise failure


async def asend(prepared: Prepared, connection: Connection, *, max_retries: int = 2) -> AsyncIterator[Chunk]:
    """The async twin of `send`; see there."""
    content, failed = _written(prepared.body), list[HostError]()
    retry = aattempts(max_retries, failed)
    if not prepared.stream:
        whole: Chunk = await retry(_apost, prepared, connection, content)
        _note(prepared, failed)
        yield whole
        return
    first: Chunk
    stream: Any
    first, stream = await retry(_aopen, prepared, connection, content)
    failure: Exception | None = None
    try:
        _note(prepared, failed)
        yield first
        if stream is not None:
            watch = _Watch(first)
            async for chunk in stream:
                yield watch.seen(chunk)
            watch.over(stream)
    except Exception as error:
        failure = _interrupted(error, prepared, connection)
    finally:
        if stream is not None:
            await stream.close()
    if failure is not None:
        raise failure


def _post(prepared: Prepared, connection: Connection, content: bytes) -> Chunk:
    client = connection.client()
    try:
        return _whole(
            client.post(_PATH, cast_to=object, content=content, options=_options(connection)), prepared, connection
        )
    except Exception as error:
        failure = _known(error, prepared, connection)
    raise failure


async def _apost(prepared: Prepared, connection: Connection, content: bytes) -> Chunk:
    client = connection.async_client()
    try:
        return _whole(
            await client.post(_PATH, cast_to=object, content=content, options=_options(connection)),
            prepared,
            connection,
        )
    except Exception as error:
        failure = _known(error, prepared, connection)
    raise failure


def _open(prepared: Prepared, connection: Connection, content: bytes) -> tuple[Chunk, Any]:
    """Open a stream up to its first chunk: until then nothing was handed out, and a retry is safe. The stream is
    None where the host answered with a whole response."""
    client, stream = connection.client(), None
    kind, _ = streams(plain=connection.plain_stream)
    try:
        stream = client.post(
            _PATH, cast_to=object, content=content, options=_options(connection), stream=True, stream_cls=kind
        )
        if _is_stream(stream):
            return _first(next(stream, None), prepared, connection), stream
        whole = _whole(stream.response.read().decode("utf-8", "replace"), prepared, connection)
        stream.close()
        return whole, None
    except BaseException as error:
        if stream is not None:
            stream.close()
        if not isinstance(error, Exception):
            raise
        failure = _known(error, prepared, connection)
    raise failure


async def _aopen(prepared: Prepared, connection: Connection, content: bytes) -> tuple[Chunk, Any]:
    client, stream = connection.async_client(), None
    _, kind = streams(plain=connection.plain_stream)
    try:
        stream = await client.post(
            _PATH, cast_to=object, content=content, options=_options(connection), stream=True, stream_cls=kind
        )
        if _is_stream(stream):
            return _first(await anext(stream, None), prepared, connection), stream
        whole = _whole((await stream.response.aread()).decode("utf-8", "replace"), prepared, connection)
        await stream.close()
        return whole, None
    except BaseException as error:
        if stream is not None:
            await stream.close()
        if not isinstance(error, Exception):
            raise
        failure = _known(error, prepared, connection)
    raise failure


def _options(connection: Connection) -> Any:
    return {} if connection.timeout is None else {"timeout": connection.timeout}


def _is_stream(stream: Any) -> bool:
    kind = stream.response.headers.get("content-type", "").lower()
    return "json" not in kind and "html" not in kind


class _Watch:
    """Looks at the chunks of a stream as they pass: are they chunks, and did the reply come to its end?"""

    def __init__(self, first: Chunk) -> None:
        self._finished = False
        self.seen(first)

    def seen(self, chunk: object) -> Chunk:
        checked = _checked(chunk)
        if not self._finished:
            self._finished = any(choice.get("finish_reason") for choice in checked.get("choices") or ())
        return checked

    def over(self, stream: Any) -> None:
        # A proxy that gives up closes the connection in good order, and half a reply looks whole. "data: [DONE]" is
        # the only mark of the end (platform.kimi.ai/docs/guide/utilize-the-streaming-output-feature-of-kimi-api);
        # hosts that leave it out at least give a finish reason.
        if not (stream.done or self._finished):
            raise _Malformed("the stream ended before the reply was finished")


class _Malformed(ValueError):
    """What the host sent is no chat completion; its text quotes nothing of it."""


def _first(chunk: object, prepared: Prepared, connection: Connection) -> Chunk:
    if chunk is None:
        raise _Malformed("the stream held no event")
    if isinstance(chunk, Mapping) and chunk.get("object") == "error":  # older vLLM
        raise answered(None, chunk, prepared.body, prepared.call.dialect, connection)
    return _checked(chunk)


def _whole(answer: object, prepared: Prepared, connection: Connection) -> Chunk:
    if isinstance(answer, str):  # the content type was not JSON's, or a stream was asked for
        answer = _parsed(answer, prepared, connection)
    if isinstance(answer, Mapping) and not answer.get("choices"):
        if answer.get("error") or answer.get("object") == "error":
            raise answered(None, answer, prepared.body, prepared.call.dialect, connection)
        raise _Malformed("the answer holds no choices")
    return _checked(answer)


def _parsed(text: str, prepared: Prepared, connection: Connection) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        pass
    if text.lstrip()[:1] == "<":  # a web page under status 200: a proxy, or an address that is not the API's
        raise answered(404, text, prepared.body, prepared.call.dialect, connection)
    raise _Malformed("the answer is not JSON")


def _checked(chunk: object) -> Chunk:
    choices = chunk.get("choices") if isinstance(chunk, dict) else False
    if choices is None or choices == []:
        return cast(Chunk, chunk)
    if not isinstance(choices, list):
        raise _Malformed("the host sent an event that is no chat completion")
    for choice in choices:
        said = (choice.get("delta") or choice.get("message")) if isinstance(choice, dict) else False
        if said is not None and not isinstance(said, dict):
            raise _Malformed("the host sent a choice that is none")
    return cast(Chunk, chunk)


def _known(error: Exception, prepared: Prepared, connection: Connection) -> Exception:
    """Return the typed form of what the SDK or its transport raised; anything else as it is."""
    import openai

    dialect = prepared.call.dialect
    if isinstance(error, HostError):
        return error.with_traceback(None)  # the frames of its making hold the host's raw answer
    if isinstance(error, openai.OpenAIError):
        return typed(error, prepared.body, dialect, connection)
    if isinstance(error, _Malformed):
        return answered(None, {"message": str(error)}, prepared.body, dialect, connection)
    # What breaks in the middle of a stream comes from the transport itself.
    if type(error).__module__.partition(".")[0] in _TRANSPORTS:
        kind = RequestTimedOut if "Timeout" in type(error).__name__ else ConnectionFailed
        broke = f"the connection to {connection.base_url} broke ({type(error).__name__})"
        return kind(broke, host=dialect.host.id, model=dialect.model_id)
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError)):
        return answered(None, {"message": "the host sent what is no JSON"}, prepared.body, dialect, connection)
    return error


def _interrupted(error: Exception, prepared: Prepared, connection: Connection) -> Exception:
    known = _known(error, prepared, connection)
    return StreamInterrupted.by(known) if isinstance(known, HostError) else known


def _note(prepared: Prepared, failed: list[HostError]) -> None:
    if failed:
        names = ", ".join(f"{type(error).__name__}{f' {error.status}' if error.status else ''}" for error in failed)
        prepared.report.heal(RETRIES, [Change("encode", f"sent {len(failed) + 1} times: first {names}")])


class _Written(bytes):
    """A body that no repr shows: openai 2.x writes the options of each request into its DEBUG log."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def _written(body: Mapping[str, Any]) -> _Written:
    try:
        return _Written(json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (ValueError, TypeError, RecursionError):
        pass  # these name neither the place nor the cure, and quote the value
    raise InvalidMessage(f"the request cannot be written as JSON: {_fault(body)}")


def _fault(body: object) -> str:
    """Say where and why a body cannot be written as JSON. Quotes no value."""
    rest: list[tuple[str, object, int]] = [("", body, 0)]
    while rest:
        path, value, depth = rest.pop()
        if depth > _DEEPEST:
            return f"{path[:120]}…: nested too deeply, or holds itself; JSON has no cycles"
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, (str, int, float, bool, type(None))):
                    return f"{path or 'the body'}: a key is a {type(key).__name__}; JSON keys are texts"
                rest.append((f"{path}.{key}" if path else str(key), inner, depth + 1))
        elif isinstance(value, (list, tuple)):
            rest += [(f"{path}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]
        elif isinstance(value, str):
            if not _is_text(value):
                return (
                    f"{path}: the text holds half a surrogate pair, which UTF-8 cannot write; clean it with "
                    "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
                )
        elif isinstance(value, float):
            if not math.isfinite(value):
                return f"{path}: {value} is no JSON number"
        elif isinstance(value, int):
            if value.bit_length() > _LONGEST_NUMBER:
                return f"{path}: the number has too many digits; send it as a text"
        elif value is not None:
            return f"{path}: a {type(value).__name__} cannot be written as JSON; give text, number, bool, list or dict"
    return "nested too deeply"


_DEEPEST = 500
_LONGEST_NUMBER = 14_000  # bits; Python refuses to write numbers of more than 4,300 digits


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
