"""``python -m benchmarks [<name> [options]]``: every module beside this one with a ``main`` is a benchmark."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names, with the others as its own, or all of them; return the status."""
    names = sorted(
        path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if "def main(" in path.read_text(encoding="utf-8")
    )
    if not arguments:
        return max([_run(name, []) for name in names])
    if arguments[0] not in names:
        print(f"usage: python -m benchmarks [{{{','.join(names)}}} [--help]]", file=sys.stderr)
        return 2
    return _run(arguments[0], arguments[1:])


def _run(name: str, arguments: list[str]) -> int:
    return int(import_module(f"benchmarks.{name}").main(arguments) or 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
