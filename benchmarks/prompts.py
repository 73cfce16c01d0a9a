"""What compaction saves over a corpus of system prompts, and what it and the linter cost.

The corpus is that of the tests: default prompts read from installed packages, and prompts in the style of published
agents. Times are CPU time of the fastest of several runs; "cold" is a prompt never seen before.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from refrase_integrations import Practices, compact_prompt, lint_prompt
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.memo import Memo
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices import concise_prompt
from refrase_integrations.kimi.prompt import copies, rules
from refrase_integrations.kimi.prompt.outline import _outline, _paragraph
from refrase_integrations.kimi.tokens import estimate
from tests.kimi.prompt.comparison import altered, losses
from tests.kimi.prompt.prompts import corpus, own

LIMIT = 20.0  # milliseconds of a compaction of SIZE tokens
SIZE = 10_000
MODEL = "kimi-k2.6"


def savings() -> dict[str, Any]:
    """Return what compaction saves, prompt by prompt, and what it lost by the tests' independent comparison."""
    rows = {}
    for name, text in corpus().items():
        short = compact_prompt(text)
        rows[name] = {
            "tokens": short.tokens_before,
            "saved": short.tokens_saved / short.tokens_before,
            "findings": len(lint_prompt(text, vision=False)),
            "lost": losses(text, short.text) + altered(text, short.text),
        }
    return rows


def long_prompt(language: str) -> str:
    """Return SIZE tokens of the corpus in one language, one prompt after the other, our own first and, where these are
    too few, again; those with conditional parts aside: between the first and the last of these nothing is read."""
    chosen = {name: text.strip() for name, text in (own() | corpus()).items() if not re.search("{%|{{#", text)}
    mine = [text for name, text in chosen.items() if name.startswith("zh") is (language == "zh")]
    parts: list[str] = []
    while (tokens := estimate.text("\n\n".join(parts))) < SIZE:
        parts.append(f"# Part {len(parts)}\n\n{mine[len(parts) % len(mine)]}")
    text = "\n\n".join(parts)
    return text[: int(len(text) * SIZE / tokens)]


def forget() -> None:
    """Drop everything that is remembered of texts."""
    for remembered in (rules.read, _outline, _paragraph, copies._points, copies._by_number):
        remembered.cache_clear()
    estimate._counts = Memo(1)


def fastest(work: Callable[[], object], runs: int, before: Callable[[], object] = lambda: None) -> float:
    """Return the CPU milliseconds of the fastest run; what runs before each is not counted."""
    best = float("inf")
    for _ in range(runs):
        before()
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1_000


def speeds(runs: int) -> dict[str, dict[str, float]]:
    rows = {}
    for language in ("en", "zh"):
        text = long_prompt(language)
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "Hello."}]
        dialect = compile_dialect(find_model(MODEL), find_host("moonshot", None), None, MODEL)
        call = Call(body={"messages": messages}, dialect=dialect, practices=Practices(), count=estimate)  # type: ignore[typeddict-item]

        def cold(*work: Callable[[str], object], text: str = text) -> float:
            return fastest(lambda: [one(text) for one in work], runs, forget)

        concise_prompt.apply(call.body, call)
        rows[language] = {
            "tokens": estimate.text(text),
            "lint, cold": cold(lint_prompt),
            "compact, cold": cold(compact_prompt),
            "lint and compact, cold": cold(lint_prompt, compact_prompt),
            "lint, warm": fastest(lambda text=text: lint_prompt(text), runs),
            "compact, warm": fastest(lambda text=text: compact_prompt(text), runs),
            "practice, each turn after the first": fastest(
                lambda call=call: concise_prompt.apply(call.body, call), runs
            ),
        }
    return rows


def table(saved: Mapping[str, Any], speed: Mapping[str, Mapping[str, float]]) -> str:
    shares = sorted(row["saved"] for row in saved.values())
    told = [row for row in saved.values() if row["findings"]]
    shorter = sorted(((row["saved"], name) for name, row in saved.items()), reverse=True)
    lines = [
        f"{len(saved)} prompts, {sum(row['tokens'] for row in saved.values()):,} tokens",
        f"saved: median {median(shares):.1%}, mean {sum(shares) / len(shares):.1%}, worst {shares[0]:.1%}, best {shares[-1]:.1%}",
        f"saved where the linter found something ({len(told)}): median {median(row['saved'] for row in told):.1%}",
        f"lost: {sum(len(row['lost']) for row in saved.values())}",
        "most saved:",
        *(f"  {share:6.1%}  {name}" for share, name in shorter[:8]),
        "CPU milliseconds:",
    ]
    for language, row in speed.items():
        lines.append(f"  {language}, {row['tokens']:,} tokens")
        lines += [f"    {name}: {value:.2f}" for name, value in row.items() if name != "tokens"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table; 0 where nothing was lost and a long prompt is compacted in time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks prompts", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="runs for each time (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    saved, speed = savings(), speeds(options.runs)
    print(table(saved, speed))
    if options.json:
        options.json.write_text(json.dumps({"saved": saved, "speed": speed}, indent=2) + "\n", encoding="utf-8")
    wrong = [f"{name} lost {row['lost']}" for name, row in saved.items() if row["lost"]]
    slow = [language for language, row in speed.items() if row["compact, cold"] > LIMIT]
    wrong += [f"{language}: compaction of {SIZE:,} tokens takes more than {LIMIT:.0f} ms" for language in slow]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
