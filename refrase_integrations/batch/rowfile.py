"""The JSONL file of a batch: one line a row, written as it ends, so that a run can be taken up again.

A line holds the row's key, a digest of its input, and its result or its failure, usage and cost; never the input.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from refrase_integrations.batch.values import line_of
from refrase_integrations.errors import BatchFileError, MissingExtra

_SYNC = 1.0  # seconds: what a crash of the machine can take back; a crash of the process takes nothing


class RowFile:
    """A file that is open for one run. Rows that succeeded are kept; those that failed are dropped, to be tried again.

    Args:
        path: made where there is none.

    Raises:
        BatchFileError: another run has it open, or it holds something else.
        MissingExtra: the extra ``batch`` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = _locked(self.path)
        try:
            self._places = self._taken_over()
            self._file: BinaryIO = self.path.open("r+b")
            self._file.seek(0, os.SEEK_END)
            self._end = self._file.tell()
        except BaseException:
            self._lock.release()
            raise
        self._synced = time.monotonic()

    def find(self, key: str, digest: str) -> int | None:
        """Return the place of a row that has succeeded, or None."""
        return self._places.get(_mark(key, digest))

    def append(self, line: Mapping[str, Any]) -> int:
        """Write a row, and return its place.

        Raises:
            ConfigurationError: it cannot be written as JSON.
        """
        raw, place = line_of(line), self._end
        self._file.write(raw)
        self._file.flush()  # it outlives this process from here on
        self._end += len(raw)
        if time.monotonic() - self._synced >= _SYNC:
            self._sync()
        return place

    def close(self) -> None:
        """Close the file and let another run have it. Safe to call again."""
        if not self._file.closed:
            self._sync()
            self._file.close()
            self._lock.release()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _taken_over(self) -> dict[bytes, int]:
        """Return the places of what is done. What is not, and half a line at the end, is taken out of the file."""
        self.path.touch()
        places, end, whole = dict[bytes, int](), 0, True
        for mark, raw in _marked(self.path):
            if mark is None:
                whole = False
            else:
                places[mark] = end
                end += len(raw)
        if not whole:
            spare = self.path.with_name(f"{self.path.name}.tmp")
            with spare.open("wb") as copy:
                copy.writelines(raw for mark, raw in _marked(self.path) if mark is not None)
                copy.flush()
                os.fsync(copy.fileno())
            spare.replace(self.path)
        return places


def rows_at(path: Path, places: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows at these places of a file."""
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            line: dict[str, Any] = json.loads(file.readline())
            yield line


def _locked(path: Path) -> Any:
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MissingExtra("a batch with path=", "batch") from None
    lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)  # opened and closed by different threads
    try:
        lock.acquire()
    except Timeout:
        raise BatchFileError(f"{path} is in use by another run: wait for it, or give another path=") from None
    except OSError as error:
        raise BatchFileError(f"{path} cannot be opened: {error.strerror or type(error).__name__}") from None
    return lock


def _marked(path: Path) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the mark and the bytes of each line; no mark of a row that failed, and of half a line at the end."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                yield None, raw
                return
            try:
                line = json.loads(raw)
            except ValueError:
                raise _no_row(path, number) from None
            key, digest = (line.get("key"), line.get("digest")) if isinstance(line, dict) else (None, None)
            if not isinstance(key, str) or not isinstance(digest, str):
                raise _no_row(path, number)
            yield None if "failure" in line else _mark(key, digest), raw


def _no_row(path: Path, number: int) -> BatchFileError:
    return BatchFileError(f"{path}:{number} is no row of a batch: give the path of a batch's own file, or a new one")


def _mark(key: str, digest: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{digest}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
