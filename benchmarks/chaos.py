"""What becomes of many calls on a host where three requests in ten meet a fault: the right answer or a typed error.

Every answer derives from its request, so each character and each call is judged exactly. Calls are made in four ways
(invoke, ainvoke, stream, astream), with and without tools, thinking on and off, dozens at a time.

    python -m benchmarks chaos --calls 10000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, Protocol

from benchmarks.environment import elsewhere, missing
from benchmarks.leaks import Held, descriptors
from refrase_integrations.simulator import Faults, KimiSimulator, Reply

MODEL = "kimi-k2.6"
MODES = ("invoke", "ainvoke", "stream", "astream")
RETRIES = 4
SILENCE = 3.0
"""Seconds after which a client gives a silent host up."""
HANG = 60.0
"""Seconds after which a call counts as hanging."""
TOGETHER = 32
"""Calls at a time."""
FAULTS = "chaos,stall_seconds=20,slow_seconds=0.2,trickle_seconds=0.01,retry_after_seconds=1"
"""The mix, with waits that suit a benchmark."""

ENDS = ("right", "typed error", "refused call", "as sent", "lost", "doubled", "wrong", "untyped error", "hang")
"""What becomes of a call, each of exactly one. refused call: the call came, marked as unusable, with words for the model
that say why. as sent: the host itself sent a piece of the text twice (`Faults.repeated_text`), and nothing else differs."""
BAD = ("lost", "doubled", "wrong", "untyped error", "hang")


# -- what is asked, and what the model says ----------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One call, and the answer to it."""

    number: int
    mode: str
    tools: bool
    thinking: bool

    @property
    def request(self) -> str:
        return f"Request {self.number}: tell it as you told it before."

    @cached_property
    def answer(self) -> Answer:
        return Answer.of(self.number, tools=self.tools, thinking=self.thinking)


@dataclass(frozen=True)
class Answer:
    """What the model says."""

    text: str
    reasoning: str | None
    calls: list[tuple[str, dict[str, Any]]]

    @classmethod
    def of(cls, number: int, *, tools: bool, thinking: bool) -> Answer:
        random = Random(number)
        calls = [_call(random, number) for _ in range(random.randint(1, 3))] if tools else []
        text = "" if tools and random.random() < 0.7 else f"{number}: {_prose(random, 10, 50)}"
        return cls(text, _prose(random, 5, 25) if thinking else None, calls)


PIECES = (
    "fog ", "雾", "🌫️ ", "Zürich ", "ha ha ha ", "\n\n", "  ", "\n```python\nif a < b:\n    print('x')\n```\n", "0000 ",
    "— ", "“quoted” ", "e\u0301 ", "\\n ", '{"a": 1} ', "<b>bold</b> ", "the ship ", "مرحبا ", "data: ", "[DONE] ", "\t",
)  # fmt: skip
"""What the texts are made of: repeats, spaces, line ends and characters of several bytes, which faults like to cut."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "write_note",
        "description": "Write a note.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "lines": {"type": "array", "items": {"type": "string"}},
                "count": {"type": "integer"},
            },
            "required": ["path", "lines", "count"],
        },
    },
}


def _prose(random: Random, least: int, most: int) -> str:
    return "".join(random.choice(PIECES) for _ in range(random.randint(least, most))) + "end."


def _call(random: Random, number: int) -> tuple[str, dict[str, Any]]:
    lines = [_prose(random, 1, 5) for _ in range(random.randint(0, 3))]
    return "write_note", {"path": f"notes/雾-{number}.md", "lines": lines, "count": random.randint(0, 10**6)}


def script(body: dict[str, Any]) -> Reply:
    """Answer a request, or go on with the answer that it begins."""
    number = _number(body)
    answer = Answer.of(number, tools="tools" in body, thinking=body["thinking"]["type"] == "enabled")
    last = body["messages"][-1]
    done = reached(last["content"], answer.text) if last.get("partial") else 0
    return Reply(answer.text[done:], answer.reasoning, answer.calls)


def _number(body: Mapping[str, Any]) -> int:
    first = next(message for message in body["messages"] if message["role"] == "user")
    return int(re.findall(r"Request (\d+):", json.dumps(first))[0])


def reached(said: str, text: str, doublings: int = 2) -> int:
    """Return how far into ``text`` one has come who said ``said``, which may have up to so many pieces in it twice.

    Raises:
        ValueError: it says anything else.
    """
    if text.startswith(said):
        return len(said)
    same = next(place for place in range(len(said)) if said[: place + 1] != text[: place + 1])
    for end in range(min(same, len(said)), 0, -1) if doublings else ():
        for size in range(1, min(end, 20) + 1):
            if said[end - size : end] == said[end : end + size]:
                try:
                    return reached(said[:end] + said[end + size :], text, doublings - 1)
                except ValueError:
                    continue
    raise ValueError("it does not stand there")


# -- clients -----------------------------------------------------------------------------------------------


@dataclass
class Got:
    """What a client handed out."""

    text: str = ""
    reasoning: str | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    refused: int = 0
    """Calls that it marked as unusable."""


class Client(Protocol):
    """A client under test."""

    def pieces(self, plan: Plan) -> Iterator[Any]:
        """Yield what comes: one whole reply, or the chunks of a stream."""

    def apieces(self, plan: Plan) -> AsyncIterator[Any]:
        """The async twin of `pieces`."""

    def join(self, pieces: Sequence[Any]) -> Got:
        """Return the reply that the pieces make."""

    def said(self, pieces: Sequence[Any]) -> str:
        """Return the text that was handed out so far."""


class _LangChain:
    def __init__(self, build: Callable[[bool], Any]) -> None:
        from langchain_core.messages import HumanMessage

        models = {thinking: build(thinking) for thinking in (False, True)}
        self._models = {(thinking, False): model for thinking, model in models.items()}
        self._models |= {(thinking, True): model.bind_tools([TOOL]) for thinking, model in models.items()}
        self._message = HumanMessage

    def _asked(self, plan: Plan) -> tuple[Any, list[Any]]:
        return self._models[plan.thinking, plan.tools], [self._message(plan.request)]

    def pieces(self, plan: Plan) -> Iterator[Any]:
        model, messages = self._asked(plan)
        if plan.mode == "invoke":
            yield model.invoke(messages)
        else:
            yield from model.stream(messages)

    async def apieces(self, plan: Plan) -> AsyncIterator[Any]:
        model, messages = self._asked(plan)
        if plan.mode == "ainvoke":
            yield await model.ainvoke(messages)
        else:
            async for chunk in model.astream(messages):
                yield chunk

    def join(self, pieces: Sequence[Any]) -> Got:
        if not pieces:
            return Got()
        whole = pieces[0]
        for chunk in pieces[1:]:
            whole = whole + chunk
        told = whole.additional_kwargs.get("tool_call_errors") or {}
        good = [(call["name"], call["args"]) for call in whole.tool_calls if call["id"] not in told]
        refused = len(whole.tool_calls) - len(good) + len(whole.invalid_tool_calls)
        return Got(self.said(pieces), whole.additional_kwargs.get("reasoning_content"), good, refused)

    def said(self, pieces: Sequence[Any]) -> str:
        return "".join(str(piece.text) for piece in pieces)


class _LlamaIndex:
    def __init__(self, build: Callable[[bool], Any]) -> None:
        from llama_index.core.llms import ChatMessage

        self._models = {thinking: build(thinking) for thinking in (False, True)}
        self._message = ChatMessage

    def _asked(self, plan: Plan) -> tuple[Any, list[Any], dict[str, Any]]:
        tools = {"tools": [TOOL]} if plan.tools else {}
        return self._models[plan.thinking], [self._message(role="user", content=plan.request)], tools

    def pieces(self, plan: Plan) -> Iterator[Any]:
        model, messages, tools = self._asked(plan)
        if plan.mode == "invoke":
            yield model.chat(messages, **tools)
        else:
            yield from model.stream_chat(messages, **tools)

    async def apieces(self, plan: Plan) -> AsyncIterator[Any]:
        model, messages, tools = self._asked(plan)
        if plan.mode == "ainvoke":
            yield await model.achat(messages, **tools)
        else:
            async for response in await model.astream_chat(messages, **tools):
                yield response

    def join(self, pieces: Sequence[Any]) -> Got:
        if not pieces:
            return Got()
        last = pieces[-1]
        thoughts = [block.content for block in last.message.blocks if type(block).__name__ == "ThinkingBlock"]
        kept = last.message.additional_kwargs.get("tool_calls") or ()
        told = {call["id"] for call in kept if isinstance(call, dict) and call.get("error")}
        chosen = self._models[False].get_tool_calls_from_response(last, error_on_no_tool_call=False)
        good = [(call.tool_name, call.tool_kwargs) for call in chosen if call.tool_id not in told]
        return Got(last.message.content or "", thoughts[0] if thoughts else None, good, len(chosen) - len(good))

    def said(self, pieces: Sequence[Any]) -> str:
        return "".join(piece.delta if piece.delta is not None else piece.message.content or "" for piece in pieces)


def chat_kimi(url: str) -> Client:
    """Our chat model for LangChain."""
    from refrase_integrations.langchain import ChatKimi

    return _LangChain(lambda thinking: ChatKimi(**_ours(url, thinking)))


def llamaindex_kimi(url: str) -> Client:
    """Our LLM for LlamaIndex."""
    from refrase_integrations.llamaindex import Kimi

    return _LlamaIndex(lambda thinking: Kimi(**_ours(url, thinking)))


def _ours(url: str, thinking: bool) -> dict[str, Any]:
    told = {"model": MODEL, "host": "moonshot", "base_url": url, "api_key": "sk-test", "thinking": thinking}
    return {**told, "max_retries": RETRIES, "timeout": SILENCE, "stall_timeout": SILENCE}


def chat_openai(url: str) -> Client:
    """LangChain's ChatOpenAI."""
    from langchain_openai import ChatOpenAI

    return _LangChain(
        lambda thinking: ChatOpenAI(
            model=MODEL, base_url=url, api_key="sk-test", max_retries=RETRIES, timeout=SILENCE,
            extra_body=_switch(thinking),
        )
    )  # fmt: skip


def openai_like(url: str) -> Client:
    """LlamaIndex's OpenAILike."""
    peer = import_module("llama_index.llms.openai_like").OpenAILike
    return _LlamaIndex(
        lambda thinking: peer(
            model=MODEL, api_base=url, api_key="sk-test", max_retries=RETRIES, timeout=SILENCE,
            is_chat_model=True, is_function_calling_model=True, context_window=262_144,
            temperature=1.0 if thinking else 0.6, additional_kwargs={"extra_body": _switch(thinking)},
        )
    )  # fmt: skip


def _switch(thinking: bool) -> dict[str, Any]:
    return {"thinking": {"type": "enabled" if thinking else "disabled"}}


CLIENTS: dict[str, tuple[Callable[[str], Client], str]] = {
    "ChatKimi": (chat_kimi, "langchain_core"),
    "llamaindex.Kimi": (llamaindex_kimi, "llama_index.core"),
    "ChatOpenAI": (chat_openai, "langchain_openai"),
    "OpenAILike": (openai_like, "llama_index.llms.openai_like"),
}
"""By name: how to get the client, and the module that it needs."""
OURS = ("ChatKimi", "llamaindex.Kimi")


# -- judgement ---------------------------------------------------------------------------------------------


def judge(plan: Plan, got: Got | BaseException, said: str, met: Mapping[str, int], *, ours: bool) -> str:
    """Say what became of a call.

    Args:
        plan: the call.
        got: the reply, or what the client raised.
        said: the text that was handed out, before an error too.
        met: how often its requests met which fault.
        ours: the reasoning counts too, and errors have to be of our own tree.
    """
    answer, doublings = plan.answer, met.get("repeated_text", 0)
    try:
        place = reached(said, answer.text, doublings)
    except ValueError:
        return "wrong" if isinstance(got, BaseException) else _difference(said, answer.text)
    if isinstance(got, BaseException):
        return "typed error" if _is_typed(got, ours=ours) else "untyped error"
    if place < len(answer.text) or len(got.calls) + got.refused < len(answer.calls):
        return "lost"
    if ours and got.reasoning != answer.reasoning:
        return _difference(got.reasoning or "", answer.reasoning or "")
    if len(got.calls) + got.refused > len(answer.calls):
        return "doubled"
    if got.text != said or any(call not in answer.calls for call in got.calls):
        return "wrong"
    if got.refused:
        return "refused call"
    if got.calls != answer.calls:
        return "wrong"
    return "right" if said == answer.text else "as sent"


def _difference(got: str, wanted: str) -> str:
    if wanted.startswith(got):
        return "lost"
    return "doubled" if len(got) > len(wanted) else "wrong"


def _is_typed(error: BaseException, *, ours: bool) -> bool:
    if ours:
        from refrase_integrations.errors import RefraseError

        return isinstance(error, RefraseError)
    import openai

    return isinstance(error, openai.OpenAIError)


# -- the run -----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of a client's calls."""

    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Names of what was raised."""
    examples: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Numbers of calls by what became of them, for the bad ends."""
    leaks: list[str] = field(default_factory=list)
    """What was held after the last call and not before the first: connections in use, tasks, threads."""
    kept: int = 0
    """Descriptors that stayed open after `aclose`."""
    requests: int = 0
    hit: int = 0
    """Requests that met a fault."""
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    longest: float = 0.0
    """Seconds of the longest call."""


def plans(calls: int) -> list[Plan]:
    """Return the calls to make: every way, with and without tools, thinking on and off, in turn."""
    kinds = [(mode, tools, thinking) for mode in MODES for tools in (False, True) for thinking in (False, True)]
    return [Plan(number, *kinds[number % len(kinds)]) for number in range(calls)]


def run(name: str, calls: int, seed: int, faults: str = FAULTS, together: int = TOGETHER) -> Tally:
    """Let one client make its calls on a fresh host, and judge them."""
    asked, tally = plans(calls), Tally()
    mix = Faults.of(faults)
    with KimiSimulator(script=script, faults=mix, seed=seed, keep=calls * 20) as simulator:
        begun = time.monotonic()
        results = asyncio.run(_run(CLIENTS[name][0](simulator.base_url), asked, tally, together))
        tally.seconds = time.monotonic() - begun
        met: dict[int, Counter[str]] = defaultdict(Counter)
        for record in simulator.requests:
            met[_number(record.body)].update(record.faults)
            tally.faults.update(record.faults)
            tally.requests += 1
            tally.hit += bool(record.faults)
    for plan, (got, said) in zip(asked, results, strict=True):
        end = "hang" if isinstance(got, Hang) else judge(plan, got, said, met[plan.number], ours=name in OURS)
        tally.ends[end] += 1
        if isinstance(got, BaseException):
            tally.errors[type(got).__name__] += 1
        if end in BAD:
            tally.examples[end].append(plan.number)
    return tally


async def _run(client: Client, asked: Sequence[Plan], tally: Tally, together: int) -> list[tuple[Any, str]]:
    from refrase_integrations.client.connection import aclose

    results: list[tuple[Any, str]] = [(Got(), "")] * len(asked)
    empty = Held.now()
    with ThreadPoolExecutor(together, thread_name_prefix="call") as threads:
        warm = [Plan(len(asked) + number, mode, tools=False, thinking=False) for number, mode in enumerate(MODES)]
        await asyncio.gather(*(_ask(client, plan, threads) for plan in warm))
        before, rest = Held.now(), iter(asked)

        async def work() -> None:
            for plan in rest:
                begun = time.monotonic()
                results[plan.number] = await _ask(client, plan, threads)
                tally.longest = max(tally.longest, time.monotonic() - begun)

        await asyncio.gather(*(work() for _ in range(together)))
        tally.leaks = Held.now().beyond(before, but=("call", "asyncio_"))
    await aclose()  # what our clients keep open for later calls; peers' connections stay until the process ends
    for _ in range(100):  # the host closes its end a little later
        tally.kept = descriptors() - empty.descriptors
        if tally.kept <= 0:
            break
        await asyncio.sleep(0.02)
    return results


class Hang(Exception):
    """A call that did not end."""


async def _ask(client: Client, plan: Plan, threads: ThreadPoolExecutor) -> tuple[Got | BaseException, str]:
    """Make one call; return its reply or error, and the text that was handed out."""
    pieces: list[Any] = []

    def ask() -> None:
        for piece in client.pieces(plan):
            pieces.append(piece)  # noqa: PERF402 - one by one: what came before an error counts

    async def aask() -> None:
        async for piece in client.apieces(plan):
            pieces.append(piece)  # noqa: PERF401

    got: Got | BaseException
    call = asyncio.ensure_future(
        aask() if plan.mode[0] == "a" else asyncio.get_running_loop().run_in_executor(threads, ask)  # type: ignore[arg-type]
    )
    if not (await asyncio.wait({call}, timeout=HANG))[0]:
        call.cancel()
        return Hang(), client.said(pieces)
    try:
        call.result()
        got = client.join(pieces)
    except Exception as error:  # noqa: BLE001 - whatever a client raises is a result
        got = error
    return got, client.said(pieces)


# -- the command -------------------------------------------------------------------------------------------


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the tallies as text, one line a client."""
    columns = (*ENDS, "leaks", "requests", "hit", "seconds", "longest")
    rows: list[tuple[str, ...]] = [("client", *columns)]
    for name, tally in tallies.items():
        ends = [str(tally.ends[end]) for end in ENDS]
        hit = f"{tally.hit / max(tally.requests, 1):.1%}"
        leaks = str(len(tally.leaks))
        rows.append((name, *ends, leaks, str(tally.requests), hit, f"{tally.seconds:.0f}", f"{tally.longest:.1f}"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def verdict(tallies: Mapping[str, Tally]) -> list[str]:
    """Return what our own clients did wrong, in words with the numbers of calls; nothing: all is well."""
    wrong = []
    for name in OURS:
        if name in tallies:
            tally = tallies[name]
            bad = [end for end in BAD if tally.ends[end]]
            wrong += [f"{name}: {end}: {tally.ends[end]} (calls {tally.examples[end][:10]})" for end in bad]
            wrong += [f"{name}: leaked {leak}" for leak in tally.leaks]
            wrong += [f"{name}: {tally.kept} descriptor(s) stay open after aclose()"] if tally.kept > 0 else []
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print its table. Returns 0 where each call of our clients ended right or in a typed error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000, help="calls of each of our clients (default %(default)s)")
    parser.add_argument("--peer-calls", type=int, help="calls of each peer (default: a fifth of --calls)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults (default %(default)s)")
    parser.add_argument("--faults", default=FAULTS, help="their mix (default %(default)s)")
    parser.add_argument("--client", action="append", choices=[*CLIENTS], help="only this client; may be repeated")
    parser.add_argument("--json", type=Path, help="file for all counts")
    options = parser.parse_args(arguments)
    clients = options.client or [*CLIENTS]
    status = elsewhere("chaos", arguments, [CLIENTS[name][1] for name in clients])
    if status is not None:
        return status
    warnings.simplefilter("ignore")
    logging.getLogger("refrase_integrations").setLevel(logging.ERROR)
    tallies: dict[str, Tally] = {}
    for name in clients:
        if missing([CLIENTS[name][1]]):
            print(f"{name}: skipped, {CLIENTS[name][1]} is not installed", flush=True)
            continue
        peer_calls = max(options.calls // 5, 1) if options.peer_calls is None else options.peer_calls
        calls = options.calls if name in OURS else peer_calls
        if not calls:
            continue
        print(f"{name}: {calls} calls ...", file=sys.stderr, flush=True)
        tallies[name] = run(name, calls, options.seed, options.faults)
    print(table(tallies))
    for name, tally in tallies.items():
        told = [*(f"{error} {count}" for error, count in tally.errors.most_common()), *tally.leaks]
        print(f"{name}: {', '.join(told) or 'no error'}")
    if options.json:
        options.json.write_text(json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=2) + "\n")
    wrong = verdict(tallies)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
