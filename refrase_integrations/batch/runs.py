"""`run_batch` and `arun_batch`: a model over many inputs, in any number, with what is done kept in a file."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from refrase_integrations.batch.callers import Caller, caller_of
from refrase_integrations.batch.progress import Bar, bar
from refrase_integrations.batch.rowfile import RowFile, rows_at
from refrase_integrations.batch.values import digest, read, written
from refrase_integrations.client.budgets import Budget, Spent
from refrase_integrations.client.failures import meaning
from refrase_integrations.errors import (
    BatchFileError,
    BudgetExceeded,
    ConfigurationError,
    HostError,
    MissingKey,
    ModelNotFound,
    QuotaExceeded,
    RefraseError,
    RequestRefused,
    WrongKey,
)
from refrase_integrations.kimi.wire import Usage

_CONCURRENCY = 8
_HOPELESS = (BudgetExceeded, MissingKey, ModelNotFound, QuotaExceeded, WrongKey)
"""What ends a run: every further row would fail likewise."""
_IN_VAIN = 20
"""Rows in a row that the host or the way to it has failed, after which a run ends (and not before twice as many as run
at once): it is down, or there is no host at that address. A refused request is the row's own matter."""


@dataclass(frozen=True)
class Failure:
    """Why a row has no result."""

    type: str
    """Name of the exception."""
    message: str
    """Its text, where it is one of this package's; what others say may repeat the prompt and is left out."""
    retryable: bool
    """Whether the same row may succeed later."""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Say what an exception means for its row."""
        means = meaning(error)
        said = str(error) if isinstance(error, RefraseError) else f"it means {means.__name__}" if means else ""
        retryable = getattr(error, "retryable", False) or bool(means and means.retryable)
        return cls(type(error).__name__, said, bool(retryable))


@dataclass(frozen=True)
class Row:
    """One row of a batch."""

    index: int
    """Its place among the inputs, from 0."""
    key: str
    result: Any
    """What the model answered, or what ``store`` made of it; None where it failed."""
    failure: Failure | None
    usage: Usage | None
    """Tokens of all requests of the row, as the hosts counted them."""
    cost_usd: float | None
    """US dollars, where the price is known."""
    resumed: bool
    """It was done before this run."""


class BatchResult:
    """What became of a batch. Iterating gives each `Row`, in the order of the inputs, read from the file one by one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done = 0
        """Rows that this run has done."""
        self.failed = 0
        self.resumed = 0
        """Rows that were done before."""
        self.causes: Counter[str] = Counter()
        """How often rows failed with which exception."""
        self.tokens = 0
        """Prompt and reply tokens of this run."""
        self.cost_usd = 0.0
        """US dollars of this run, as far as prices are known."""
        self.seconds = 0.0
        self._places = array("q")
        self._before = bytearray()
        self._rows: list[Row] = []
        self._inode = 0

    def __len__(self) -> int:
        return self.done + self.failed + self.resumed

    def __iter__(self) -> Iterator[Row]:
        if self.path is None:
            yield from self._rows
            return
        # Rows that a run did not come to have no place.
        if self.path.stat().st_ino != self._inode:
            raise BatchFileError(f"{self.path} was written anew by a later run: iterate over that one's result")
        known = [index for index, place in enumerate(self._places) if place >= 0]
        for index, line in zip(known, rows_at(self.path, (self._places[i] for i in known)), strict=True):
            yield _row(index, line, resumed=bool(self._before[index]))

    @property
    def results(self) -> list[Any]:
        """The results in the order of the inputs; None where a row failed."""
        return [row.result for row in self]

    def __str__(self) -> str:
        rate = self.done / self.seconds if self.seconds else 0.0
        causes = f" ({', '.join(f'{n:,} {cause}' for cause, n in self.causes.most_common(5))})" if self.failed else ""
        before = f", {self.resumed:,} done before" if self.resumed else ""
        return (
            f"{self.done:,} rows done, {self.failed:,} failed{causes}{before}; {self.tokens:,} tokens, "
            f"${self.cost_usd:.4f}, {self.seconds:.1f} s, {rate:.1f} rows/s"
        )

    def _put(self, index: int, row: Row | None, place: int = -1, *, resumed: bool = False) -> None:
        if self.path is None:
            assert row is not None
            self._rows.append(row)
            return
        while len(self._places) <= index:
            self._places.append(-1)
            self._before.append(False)
        self._places[index], self._before[index] = place, resumed


def run_batch(
    model: Any,
    inputs: Iterable[Any],
    *,
    path: str | os.PathLike[str] | None = None,
    key: Callable[[Any], str] | None = None,
    store: Callable[[Any], Any] | None = None,
    concurrency: int | None = None,
    budget: Budget | None = None,
    on_error: Literal["keep", "raise"] = "keep",
    progress: bool | None = None,
    total: int | None = None,
) -> BatchResult:
    """Answer many inputs, several at once, and keep what is done.

    ```python
    rows = run_batch(ChatKimi(limits=Limits.of_tier(1)), prompts, path="answers.jsonl", budget=Budget(usd=20))
    for row in rows:
        print(row.key, row.result.text if row.failure is None else row.failure.message)
    ```

    With a ``path`` each row is written as it ends. Run again with the same inputs, it goes on: a row whose key and
    input are in the file with a result is not asked for again, one that failed is. The file holds a digest of each
    input and never the input. Without a path everything is kept in memory.

    Ctrl-C lets the rows under way end, and starts no more; a second one drops them. What stops every row alike (a wrong
    key, a used-up quota, the budget, a host that has failed twenty rows in a row) ends the run, and the error is
    raised; the rows so far are in the file.

    Args:
        model: a chat model, chain or agent of LangChain; an LLM of LlamaIndex; or a function of one input.
        inputs: what the model takes: prompts, messages, dicts for a chain ... Taken one by one as there is room, by the
            thread in which the run is at work.
        path: the file; it is made where there is none. ``<path>.lock`` beside it keeps other runs off.
        key: names a row by its input, so that it is found again when inputs are added or reordered. None: its number.
        store: what of a result is kept, such as ``lambda reply: reply.text``. None: all of it.
        concurrency: rows at the same time. None: as many requests as the model's `Limits` allow, else 8.
        budget: what the run may spend (rows of earlier runs not counted), on top of the model's own.
        on_error: "keep": a row that fails stands in the file, and the others go on. "raise": it ends the run.
        progress: a bar on a terminal, unless in continuous integration; False: none.
        total: number of inputs for the bar, where they have no length.

    Raises:
        ConfigurationError: an argument does not fit, two rows have the same key, or a result cannot be written as JSON
            (use ``store``).
        BatchFileError: the file is in use, or is none of a batch.
        RefraseError: what stops the run; see above.
    """
    run = _Run(
        model, inputs, path=path, key=key, store=store, concurrency=concurrency, budget=budget, on_error=on_error,
        progress=progress, total=total,
    )  # fmt: skip
    context, over, ended = contextvars.copy_context(), threading.Event(), list[BaseException]()

    def main() -> None:
        try:
            with asyncio.Runner() as runner:
                runner.get_loop().set_default_executor(ThreadPoolExecutor(run.concurrency, "refrase-batch"))
                runner.run(run.go())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            ended.append(error)
        finally:
            over.set()

    # In a thread of its own: there may be an event loop in this one, and Ctrl-C arrives here.
    thread = threading.Thread(target=context.run, args=(main,), name="refrase-batch")
    thread.start()
    interrupted = False
    while not over.is_set():  # no join: interrupted, it takes the thread for dead (bpo-45274)
        try:
            over.wait()
        except KeyboardInterrupt:
            run.drop() if interrupted else run.stop()
            interrupted = True
    thread.join()
    if interrupted:
        raise _told(KeyboardInterrupt(), run)
    if ended:
        raise _told(ended[0], run)
    return run.result


async def arun_batch(
    model: Any,
    inputs: Iterable[Any] | AsyncIterable[Any],
    *,
    path: str | os.PathLike[str] | None = None,
    key: Callable[[Any], str] | None = None,
    store: Callable[[Any], Any] | None = None,
    concurrency: int | None = None,
    budget: Budget | None = None,
    on_error: Literal["keep", "raise"] = "keep",
    progress: bool | None = None,
    total: int | None = None,
) -> BatchResult:
    """The async twin of `run_batch`; see there. Cancelled, it drops the rows under way."""
    run = _Run(
        model, inputs, path=path, key=key, store=store, concurrency=concurrency, budget=budget, on_error=on_error,
        progress=progress, total=total,
    )  # fmt: skip
    try:
        await run.go()
    except Exception as error:
        _told(error, run)
        raise
    return run.result


def _told(error: BaseException, run: _Run) -> BaseException:
    where = f" Run it again with path={str(run.result.path)!r} to go on." if run.result.path else ""
    error.add_note(f"The batch ended early: {run.result}.{where}")
    return error


class _Input(NamedTuple):
    number: int
    key: str
    digest: str
    value: Any


class _Run:
    """One run of a batch."""

    def __init__(
        self,
        model: Any,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        path: str | os.PathLike[str] | None,
        key: Callable[[Any], str] | None,
        store: Callable[[Any], Any] | None,
        concurrency: int | None,
        budget: Budget | None,
        on_error: str,
        progress: bool | None,
        total: int | None,
    ) -> None:
        self._caller: Caller = caller_of(model)
        self.concurrency = _checked(concurrency, model)
        if on_error not in ("keep", "raise"):
            raise ConfigurationError(f"on_error must be 'keep' or 'raise', not {on_error!r:.20}")
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, (Iterable, AsyncIterable)):
            raise ConfigurationError(f"inputs must be a list, or iterate over inputs: not {type(inputs).__name__}")
        self._inputs, self._key, self._store, self._on_error = inputs, key, store, on_error
        self._budget: AbstractContextManager[Any] = nullcontext() if budget is None else budget
        if total is None and isinstance(inputs, Sized):
            total = len(inputs)
        self._bar: Bar = bar(total, wanted=progress)
        self.result = BatchResult(None if path is None else Path(path))
        self._file: RowFile | None = None
        self._again: deque[_Input] = deque()
        self._waits = False
        """A row was refused for what others have reserved: none begins before one of these has ended."""
        self._under_way = 0
        self._in_vain = 0
        """Rows since the last one that was answered, that the host has failed."""
        self._stopping = False
        self._failure: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Begin no more rows. From any thread."""
        self._stopping = True
        self._bar.say("Stopping: rows under way are finished. Ctrl-C again drops them.")

    def drop(self) -> None:
        """End at once. From any thread."""
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def go(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        began = time.monotonic()
        if self.result.path is not None:
            self._file = await asyncio.to_thread(RowFile, self.result.path)
            self.result._inode = self.result.path.stat().st_ino
        running: set[asyncio.Task[None]] = set()
        rows = self._rows()
        try:
            with self._bar:
                while await self._begun(rows, running):
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    self._bar.show(self.result)
                self._bar.show(self.result)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await rows.aclose()
            self.result.seconds = time.monotonic() - began
            self.result._rows.sort(key=lambda row: row.index)
            if self._file is not None:
                self._file.close()
        if self._failure is not None:
            raise self._failure

    async def _begun(self, rows: AsyncIterator[_Input], running: set[asyncio.Task[None]]) -> bool:
        """Begin what there is room for; tell whether anything is under way."""
        try:
            while not self._stopping and len(running) < self.concurrency and not (self._waits and running):
                row = self._again.popleft() if self._again else await anext(rows, None)
                if row is None:
                    break
                running.add(asyncio.create_task(self._answer(row)))
        except Exception as error:  # noqa: BLE001 - what is under way is paid for, and may end
            self._end(error)
        return bool(running)

    def _end(self, error: Exception) -> None:
        self._stopping, self._failure = True, self._failure or error

    async def _rows(self) -> AsyncGenerator[_Input, None]:
        """Yield the inputs that are not done yet."""
        keys = set[str]()
        async with aclosing(_numbered(self._inputs)) as inputs:
            async for number, value in inputs:
                key = str(number) if self._key is None else self._key(value)
                if self._key is not None:
                    if not isinstance(key, str) or key in keys:
                        what = "was there before" if isinstance(key, str) else f"is a {type(key).__name__}, no text"
                        raise ConfigurationError(f"input {number}: its key {what}")
                    keys.add(key)
                try:
                    row = _Input(number, key, digest(value), value)
                except ConfigurationError as error:
                    raise ConfigurationError(f"input {number}: {error}") from None
                place = None if self._file is None else self._file.find(key, row.digest)
                if place is None:
                    yield row
                else:
                    self.result.resumed += 1
                    self.result._put(number, None, place, resumed=True)

    async def _answer(self, row: _Input) -> None:
        result, error = None, None
        self._under_way += 1
        try:
            with self._budget, Budget() as meter:
                try:
                    result = await self._caller(row.value)
                except Exception as raised:  # noqa: BLE001 - one row's failure must not lose the others
                    error = raised
            if isinstance(error, BudgetExceeded) and not meter.spent.requests:
                self._unsent(row, error)
            else:
                self._waits = False
                self._keep(row, result, error, meter.spent)
        except Exception as wrong:  # noqa: BLE001 - the file or the result, not the row
            self._end(wrong)
        finally:
            self._under_way -= 1

    def _unsent(self, row: _Input, error: BudgetExceeded) -> None:
        """A row was not begun for want of budget: it comes again where others may give back what they have reserved."""
        if error.passing and self._under_way > 1:
            self._again.append(row)
            self._waits = True
        else:
            self._end(error)

    def _keep(self, row: _Input, result: Any, error: Exception | None, spent: Spent) -> None:
        counts = self.result
        counts.tokens += spent.tokens
        counts.cost_usd = round(counts.cost_usd + spent.usd, 10)
        line: dict[str, Any] = {"key": row.key, "digest": row.digest}
        if error is None:
            kept = result if self._store is None else self._store(result)
            try:
                line["result"] = kept if self._file is None else written(kept)
            except ConfigurationError as wrong:
                raise _unwritten(row, wrong) from None
        else:
            line["failure"] = asdict(Failure.of(error))
            counts.causes[type(error).__name__] += 1
            self._in_vain += _is(error, HostError) and not _is(error, RequestRefused)
            down = self._in_vain >= max(_IN_VAIN, 2 * self.concurrency)
            if self._on_error == "raise" or down or _is(error, _HOPELESS):
                self._end(error)
        if spent.requests:
            line["usage"], line["cost_usd"] = spent.usage, spent.usd
        if self._file is None:
            counts._put(row.number, _row(row.number, line, resumed=False, raw=True))
        else:
            try:
                counts._put(row.number, None, self._file.append(line))
            except ConfigurationError as wrong:
                raise _unwritten(row, wrong) from None
        if error is None:
            self._in_vain = 0
            counts.done += 1
        else:
            counts.failed += 1


def _row(index: int, line: Mapping[str, Any], *, resumed: bool, raw: bool = False) -> Row:
    failure, result = line.get("failure"), line.get("result")
    return Row(
        index,
        line["key"],
        result if raw else read(result),
        None if failure is None else Failure(**failure),
        line.get("usage"),
        line.get("cost_usd"),
        resumed,
    )


def _unwritten(row: _Input, wrong: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(f"the result of input {row.number}: {wrong}. Say with store= what of it to keep.")


def _is(error: Exception, kinds: type[Exception] | tuple[type[Exception], ...]) -> bool:
    """Tell whether an exception, of this package or of another's client, is or means one of these."""
    means = meaning(error)
    return isinstance(error, kinds) or (means is not None and issubclass(means, kinds))


def _checked(concurrency: int | None, model: Any) -> int:
    if concurrency is None:
        limits = getattr(model, "limits", None)
        allowed = getattr(getattr(limits, "limits", limits), "concurrency", None)
        return allowed if isinstance(allowed, int) else _CONCURRENCY
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError(f"concurrency must be a whole number from 1 on, not {concurrency!r:.20}")
    return concurrency


async def _numbered(inputs: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    if isinstance(inputs, AsyncIterable):
        number = 0
        async for value in inputs:
            yield number, value
            number += 1
    else:
        for pair in enumerate(inputs):
            yield pair
