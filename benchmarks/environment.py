"""An environment with every peer in it: some pin another line of the openai SDK than the newest, which this checkout has.

A benchmark that misses a peer where it was started runs itself there instead::

    def main(arguments):
        status = elsewhere("speed", arguments, ["langchain_openai"])
        if status is not None:
            return status
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".venv-bench"
PEERS = Path(__file__).with_name("peers.txt")
EXTRAS = "langchain,llamaindex,simulator"


def elsewhere(benchmark: str, arguments: Sequence[str], modules: Iterable[str], place: Path = PLACE) -> int | None:
    """Run a benchmark in the environment of the peers, where a module is missing here.

    Args:
        benchmark: its name.
        arguments: its own arguments.
        modules: what it imports of its peers.
        place: where the environment is, or is to be made.

    Returns:
        The exit status of the run there; None: go on here, nothing is missing, or this is there already, or it cannot be
        made (no network, say): then what is missing is left out.
    """
    lacking = missing(modules)
    if not lacking or Path(sys.prefix).resolve() == place.resolve():
        return None
    print(f"not installed here: {', '.join(lacking)}; going on in {place}", file=sys.stderr, flush=True)
    try:
        python = made(place)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{place} cannot be made ({error}); going on without", file=sys.stderr, flush=True)
        return None
    return subprocess.run([str(python), "-m", "benchmarks", benchmark, *arguments], check=False).returncode


def missing(modules: Iterable[str]) -> list[str]:
    """Return those of the modules that cannot be imported here."""
    return [module for module in modules if not _installed(module)]


def made(place: Path = PLACE) -> Path:
    """Make the environment, unless it is there and nothing has changed since; return its interpreter."""
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp, wanted = place / ".made", fingerprint()
    if not (python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        venv.create(place, with_pip=True, clear=True)
        what = ["--editable", f"{ROOT}[{EXTRAS}]", "--requirement", str(PEERS)]
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *what], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def fingerprint() -> str:
    """Return what the environment is made of, in short."""
    parts = (PEERS.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package it is in
        return False
