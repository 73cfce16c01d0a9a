"""How much of the client's CPU a call costs: ours, the SDK's, the frameworks' own and their other integrations'.

    python -m benchmarks speed [--json FILE] [--rounds N] [--only ROW] [--here]

Everything is measured in one run against one small server in another process, round by round, each contender in turn;
a figure is the median over the rounds, a verdict compares two figures of the same run. Microseconds of CPU time of
this process, so that waiting counts for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.environment import elsewhere, missing
from benchmarks.server import serving

KEY = "sk-not-a-key"
PEERS = ("langchain_openai", "langchain_deepseek", "langchain_moonshot", "litellm", "llama_index.llms.openai_like")
"""What is measured beside ours; what is not installed here brings the run into the environment of the benchmarks."""
FIGURES = Path(__file__).parents[1] / "build" / "speed.json"
CHUNKS = 2_000
MESSAGE = "Is water wet?"

Run = Callable[[], Any]
"""One measured pass of one contender."""


@dataclass(frozen=True)
class Row:
    """One line of the table: contenders, and what is asked of the first of them."""

    name: str
    unit: str
    contenders: Mapping[str, Run]
    per: int = 1
    """How many units a pass holds."""
    goals: Sequence[tuple[str, float]] = ()
    """Pairs of a peer and the largest share of its figure that ours may be."""
    clock: Callable[[], float] = time.process_time
    scale: float = 1e6
    """From the clock's seconds to the unit."""
    allowances: Sequence[tuple[str, float]] = ()
    """Pairs of a peer and how much more than its figure ours may be, in the unit."""


class Verdict(NamedTuple):
    """What becomes of one goal."""

    peer: str
    goal: float
    found: float
    unit: str = ""
    """Of a difference; empty: goal and finding are ratios."""

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.found <= self.goal

    def __str__(self) -> str:
        said = "met" if self.met else "MISSED"
        if self.unit:
            return f"{self.found:.1f} {self.unit} over {self.peer} (goal {self.goal:g}): {said}"
        return f"{self.found:.2f} of {self.peer} (goal {self.goal:.2f}): {said}"


@dataclass
class Result:
    """The figures of one row, by contender."""

    row: Row
    figures: dict[str, float] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """Return ours against each of the others."""
        ours, *others = self.figures
        return {name: self.figures[ours] / self.figures[name] for name in others if self.figures[name]}

    def verdicts(self) -> list[Verdict]:
        """Return what becomes of each goal; peers that are not installed are left out."""
        ours, *_ = self.figures.values()
        shares = [Verdict(peer, goal, ratio) for peer, goal in self.row.goals if (ratio := self.ratios().get(peer))]
        more = [
            Verdict(peer, most, ours - self.figures[peer], self.row.unit)
            for peer, most in self.row.allowances
            if peer in self.figures
        ]
        return [*shares, *more]


def measure(row: Row, rounds: int) -> Result:
    """Let every contender have its turn in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in row.contenders}
    for number in range(rounds + 1):
        for name, run in row.contenders.items():
            gc.collect()
            start = row.clock()
            run()
            if number:  # the first round warms up
                seconds[name].append(row.clock() - start)
    return Result(row, {name: statistics.median(spent) / row.per * row.scale for name, spent in seconds.items()})


def installed(*modules: str) -> bool:
    """Tell whether all of these can be imported."""
    return not missing(modules)


# -- contenders --------------------------------------------------------------------------------------------


class Loop:
    """One event loop for all async passes: clients belong to a loop, and making them is not what is measured."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __call__(self, work: Callable[[], Awaitable[Any]]) -> Run:
        """Return a pass that runs ``work`` on the loop."""

        async def run() -> Any:
            return await work()

        return lambda: self._runner.run(run())

    def close(self) -> None:
        self._runner.close()


def counted(stream: Any, least: int) -> None:
    """Read a stream to its end; so many chunks must come out at the least."""
    total = sum(1 for _ in stream)
    assert total >= least, total


async def acounted(stream: Any, least: int) -> None:
    """The async twin of `counted`."""
    total = 0
    async for _ in stream:
        total += 1
    assert total >= least, total


WRITE = {"type": "function", "function": {"name": "write", "parameters": {"type": "object", "properties": {}}}}
"""The tool that the server's calls are to. It is declared: a call to any other would be asked for again."""


def langchain_models(url: str) -> dict[str, Any]:
    """Return the chat models that are installed, ours first, each pointed at ``url``."""
    from refrase_integrations.langchain import ChatKimi

    models: dict[str, Any] = {"ChatKimi": ChatKimi(model="kimi-k2.6", host="moonshot", base_url=url, api_key=KEY)}
    if installed("langchain_openai"):
        from langchain_openai import ChatOpenAI

        models["ChatOpenAI"] = ChatOpenAI(model="m", base_url=url, api_key=KEY, stream_usage=True)
    if installed("langchain_deepseek"):
        from langchain_deepseek import ChatDeepSeek

        models["ChatDeepSeek"] = ChatDeepSeek(model="m", api_base=url, api_key=KEY, stream_usage=True)
    if installed("langchain_moonshot"):
        from langchain_moonshot import ChatMoonshot

        models["ChatMoonshot"] = ChatMoonshot(model="kimi-k2.6", base_url=url, api_key=KEY, stream_usage=True)
    return models


def langchain_floor(chunks: int, kind: str = "text") -> Any:
    """Return a chat model that only hands out ready words, of text or of reasoning: what langchain-core itself costs."""
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

    def said(word: str) -> AIMessageChunk:
        if kind == "reasoning":
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": word})
        return AIMessageChunk(content=word)

    class Floor(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "floor"

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("Yes, it is."))])

        async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
            return self._generate()

        def _stream(self, *_: Any, **__: Any) -> Any:
            for number in range(chunks):
                yield ChatGenerationChunk(message=said(f"word{number} "))

        async def _astream(self, *_: Any, **__: Any) -> Any:
            for number in range(chunks):
                yield ChatGenerationChunk(message=said(f"word{number} "))

    return Floor()


def llamaindex_floor() -> Any:
    """Return an LLM that only hands out a ready reply: what llama-index-core itself costs."""
    from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata
    from llama_index.core.llms.callbacks import llm_chat_callback

    class Floor(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(is_chat_model=True)

        @llm_chat_callback()
        def chat(self, *_: Any, **__: Any) -> ChatResponse:
            return ChatResponse(message=ChatMessage(role="assistant", content="Yes, it is."))

        def complete(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        stream_complete = complete

    return Floor()


def sdk(url: str) -> tuple[Any, Any, Callable[..., Any]]:
    """Return the SDK's two clients, and the arguments of a request."""
    import openai

    def request(**more: Any) -> dict[str, Any]:
        return {"model": "m", "messages": [{"role": "user", "content": MESSAGE}], **more}

    return openai.OpenAI(base_url=url, api_key=KEY), openai.AsyncOpenAI(base_url=url, api_key=KEY), request


def raw_http() -> Any:
    """Return the HTTP library that the installed SDK rides on."""
    import openai

    name = "httpx2" if int(openai.__version__.split(".", 1)[0]) >= 3 else "httpx"
    return importlib.import_module(name)


def raw_lines(http: Any, url: str) -> Run:
    """Return a pass that reads a stream's lines with the bare HTTP library and parses nothing."""
    client = http.Client()

    def run() -> None:
        with client.stream("POST", f"{url}/chat/completions", json={"stream": True}) as response:
            for _ in response.iter_lines():
                pass

    return run


# -- rows --------------------------------------------------------------------------------------------------


def streams(server: str, loop: Loop) -> list[Row]:
    """A chunk of a stream, through LangChain."""
    rows = []
    for kind in ("text", "reasoning", "tools"):
        url = f"{server}/{kind}/{CHUNKS}/v1"
        calls = kind == "tools"
        least = 1 if calls else CHUNKS  # ours hands calls out whole, at the end
        models = {name: model.bind_tools([WRITE]) if calls else model for name, model in langchain_models(url).items()}
        client, aclient, asked = sdk(url)
        request = partial(asked, tools=[WRITE]) if calls else asked
        floor = langchain_floor(CHUNKS, kind)
        sync: dict[str, Run] = {
            name: lambda model=model, least=least: counted(model.stream(MESSAGE), least)
            for name, model in models.items()
        }
        sync["openai SDK"] = lambda client=client, request=request: counted(
            client.chat.completions.create(**request(stream=True)), CHUNKS
        )
        sync["langchain-core alone"] = lambda floor=floor: counted(floor.stream(MESSAGE), CHUNKS)
        sync["bare HTTP lines"] = raw_lines(raw_http(), url)

        async def sdk_stream(aclient: Any = aclient, request: Any = request) -> None:
            await acounted(await aclient.chat.completions.create(**request(stream=True)), CHUNKS)

        later: dict[str, Run] = {
            name: loop(lambda model=model, least=least: acounted(model.astream(MESSAGE), least))
            for name, model in models.items()
        }
        later["openai SDK"] = loop(sdk_stream)
        later["langchain-core alone"] = loop(lambda floor=floor: acounted(floor.astream(MESSAGE), CHUNKS))
        goals = (("ChatOpenAI", 0.25), ("openai SDK", 0.35), ("langchain-core alone", 2.5))
        rows += [
            Row(f"ChatKimi.stream, {kind}", "us a chunk", sync, CHUNKS, goals),
            Row(f"ChatKimi.astream, {kind}", "us a chunk", later, CHUNKS, goals),
        ]
    models = langchain_models(f"{server}/text/{CHUNKS}/v1")
    events: dict[str, Run] = {
        name: lambda model=model: counted(model.stream_events(MESSAGE, version="v3"), CHUNKS)
        for name, model in models.items()
        if name in ("ChatKimi", "ChatOpenAI")
    }
    rows.append(Row("ChatKimi, v3 events", "us a chunk", events, CHUNKS, (("ChatOpenAI", 0.4),)))
    return rows


def llamaindex_streams(server: str, loop: Loop) -> list[Row]:
    """A chunk of a stream, through LlamaIndex, short and long."""
    if not installed("llama_index.core"):
        return []
    from llama_index.core.llms import ChatMessage

    from refrase_integrations.llamaindex import Kimi

    asked = [ChatMessage(role="user", content=MESSAGE)]
    rows, per_chunk = [], dict[int, Run]()
    for chunks in (500, CHUNKS, 20_000):
        url = f"{server}/text/{chunks}/v1"
        llms: dict[str, Any] = {"Kimi": Kimi(model="kimi-k2.6", host="moonshot", base_url=url, api_key=KEY)}
        if installed("llama_index.llms.openai_like"):
            from llama_index.llms.openai_like import OpenAILike

            llms["OpenAILike"] = OpenAILike(model="m", api_base=url, api_key=KEY, is_chat_model=True)
        per_chunk[chunks] = lambda llm=llms["Kimi"], chunks=chunks: counted(llm.stream_chat(asked), chunks)
        if chunks != CHUNKS:
            continue
        sync = {name: lambda llm=llm: counted(llm.stream_chat(asked), CHUNKS) for name, llm in llms.items()}

        async def arun(llm: Any) -> None:
            await acounted(await llm.astream_chat(asked), CHUNKS)

        later = {name: loop(lambda llm=llm: arun(llm)) for name, llm in llms.items()}
        goals = (("OpenAILike", 0.30),)
        rows += [
            Row("Kimi.stream_chat, text", "us a chunk", sync, CHUNKS, goals),
            Row("Kimi.astream_chat, text", "us a chunk", later, CHUNKS, goals),
        ]
    flat = {"20,000 chunks": per_chunk[20_000], "500 chunks, forty times": _repeated(per_chunk[500], 40)}
    rows.append(
        Row("Kimi.stream_chat, long against short", "us a chunk", flat, 20_000, (("500 chunks, forty times", 1.3),))
    )
    return rows


def _repeated(run: Run, times: int) -> Run:
    def again() -> None:
        for _ in range(times):
            run()

    return again


CALLS = 100


def calls(server: str) -> list[Row]:
    """A whole reply."""
    url = f"{server}/text/1/v1"
    client, _, request = sdk(url)
    models = langchain_models(url)
    passes: dict[str, Run] = {name: lambda model=model: model.invoke(MESSAGE) for name, model in models.items()}
    passes["openai SDK"] = lambda: client.chat.completions.create(**request())
    if installed("litellm"):
        import litellm

        passes["LiteLLM"] = lambda: litellm.completion(api_base=url, api_key=KEY, **{**request(), "model": "openai/m"})
    alone, http = langchain_floor(1), raw_http().Client()
    passes["langchain-core alone"] = lambda: alone.invoke(MESSAGE)
    passes["bare HTTP"] = lambda: http.post(f"{url}/chat/completions", json=request()).json()
    goals = (("openai SDK", 0.75), ("ChatOpenAI", 0.55))
    many = {name: _repeated(run, CALLS) for name, run in passes.items()}
    rows = [Row("ChatKimi.invoke", "us a call", many, CALLS, goals)]
    if installed("llama_index.core"):
        from llama_index.core.llms import ChatMessage

        from refrase_integrations.llamaindex import Kimi

        asked = [ChatMessage(role="user", content=MESSAGE)]
        kimi = Kimi(model="kimi-k2.6", host="moonshot", base_url=url, api_key=KEY)
        floor = llamaindex_floor()
        chat = {"Kimi": _repeated(lambda: kimi.chat(asked), CALLS)} | {
            name: many[name] for name in ("openai SDK", "ChatOpenAI", "bare HTTP") if name in many
        }
        chat["llama-index-core alone"] = _repeated(lambda: floor.chat(asked), CALLS)
        if installed("llama_index.llms.openai_like"):
            from llama_index.llms.openai_like import OpenAILike

            like = OpenAILike(model="m", api_base=url, api_key=KEY, is_chat_model=True)
            chat["OpenAILike"] = _repeated(lambda: like.chat(asked), CALLS)
        rows.append(Row("Kimi.chat", "us a call", chat, CALLS, goals))
    return rows


def constructions(server: str) -> list[Row]:
    """Ten models, none of which is asked anything."""
    url = f"{server}/text/1/v1"
    from refrase_integrations.langchain import ChatKimi

    passes: dict[str, Run] = {
        "ChatKimi": lambda: [ChatKimi(base_url=url, host="moonshot", api_key=KEY) for _ in range(10)]
    }
    if installed("langchain_moonshot"):
        from langchain_moonshot import ChatMoonshot

        passes["ChatMoonshot"] = lambda: [ChatMoonshot(model="kimi-k2.6", base_url=url, api_key=KEY) for _ in range(10)]
    if installed("langchain_openai"):
        from langchain_openai import ChatOpenAI

        passes["ChatOpenAI"] = lambda: [ChatOpenAI(model="m", base_url=url, api_key=KEY) for _ in range(10)]
    return [Row("ten models", "ms", passes, 1, (("ChatMoonshot", 0.03),), scale=1e3)]


def preparing(server: str) -> list[Row]:
    """The next turn of a long thread: practices and conversion, without sending."""
    if not installed("langchain_openai"):
        return []
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    from refrase_integrations.kimi.prepare import prepare
    from refrase_integrations.langchain import ChatKimi

    def thread(turns: int) -> list[Any]:
        messages: list[Any] = [SystemMessage("You answer from the notes that the tools return, in one paragraph.")]
        for turn in range(turns):
            call = {"name": f"tool_{turn % 40}", "args": {"query": f"note {turn}", "limit": 5}, "id": f"call_{turn}"}
            messages += [
                HumanMessage(f"What do the notes say about item {turn}, and is that still so?"),
                AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": f"I look up item {turn}."}),
                ToolMessage(f"Item {turn}: 12 pieces in stock, ordered again in spring.", tool_call_id=f"call_{turn}"),
                AIMessage(f"There are 12 pieces of item {turn}; more were ordered in spring."),
            ]
        return messages

    tools = [
        {
            "type": "function",
            "function": {
                "name": f"tool_{number}",
                "description": f"Searches collection {number} of the notes.",
                "parameters": {
                    "type": "object",
                    "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "default": 5}},
                    "required": ["query"],
                },
            },
        }
        for number in range(40)
    ]
    kimi = ChatKimi(model="kimi-k2.6", host="moonshot", base_url=f"{server}/text/1/v1", api_key=KEY)
    peer = ChatOpenAI(model="m", base_url=f"{server}/text/1/v1", api_key=KEY)

    def ours(messages: list[Any]) -> Run:
        def run() -> None:
            for _ in range(10):
                prepare(kimi._call(messages, kimi._settings(None, {"tools": tools}), stream=False))

        return run

    def theirs(messages: list[Any]) -> Run:
        def run() -> None:
            for _ in range(10):
                peer._get_request_payload(messages, tools=tools)

        return run

    long, longer = thread(100), thread(400)
    rows = [
        Row(
            "request of 400 messages and 40 tools",
            "us",
            {"ChatKimi": ours(long), "ChatOpenAI": theirs(long)},
            10,
            (("ChatOpenAI", 1.5),),  # conversion and all practices, against conversion alone
        ),
        Row(
            "request of 1,600 messages against four of 400",
            "us",
            {"1,600": ours(longer), "4 x 400": _repeated(ours(long), 4)},
            10,
            (("4 x 400", 1.3),),
        ),
    ]
    return rows


def concurrency(server: str, loop: Loop) -> list[Row]:
    """64 streams at once on one event loop; the time that all of them take."""
    chunks, many = 400, 64
    models = langchain_models(f"{server}/text/{chunks}/v1")

    def together(model: Any) -> Run:
        async def run() -> None:
            await asyncio.gather(*(acounted(model.astream(MESSAGE), chunks) for _ in range(many)))

        return loop(run)

    passes = {name: together(model) for name, model in models.items() if name in ("ChatKimi", "ChatOpenAI")}
    goals = (("ChatOpenAI", 0.4),)
    return [
        Row("64 streams at once", "us a chunk, wall", passes, chunks * many, goals, clock=time.perf_counter),
    ]


def imports() -> list[Row]:
    """A cold interpreter with one import."""

    # Compiled, as an installer leaves a package: the first round, which is not counted, writes what is missing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def cold(code: str) -> Run:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment)

    def children() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    chat_models = "import langchain_core.language_models.chat_models"
    bare = {"refrase_integrations": cold("import refrase_integrations"), "bare interpreter": cold("pass")}
    kimi = {
        "ChatKimi": cold("from refrase_integrations.langchain import ChatKimi"),
        "langchain-core's chat models": cold(chat_models),
    }
    if installed("langchain_openai"):
        kimi["ChatOpenAI"] = cold("from langchain_openai import ChatOpenAI")
    return [
        Row("import ChatKimi", "ms", kimi, 1, (("langchain-core's chat models", 1.1),), children, 1e3),
        Row(
            "import refrase_integrations",
            "ms",
            bare,
            1,
            clock=children,
            scale=1e3,
            allowances=(("bare interpreter", 60),),
        ),
    ]


# -- sizes -------------------------------------------------------------------------------------------------


def installed_bytes(distribution: str, extras: Sequence[str] = ()) -> dict[str, int]:
    """Return the bytes on disk of a distribution and everything it needs, by name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, int] = {}
    rest = [(distribution, tuple(extras))]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while rest:
        name, wanted = rest.pop()
        name = canonicalize_name(name)
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            known = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        files = [Path(str(known.locate_file(file))) for file in known.files or ()]
        found[name] = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
        for line in known.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                rest.append((requirement.name, tuple(sorted(requirement.extras))))
    return found


def sizes() -> Result:
    """Return megabytes that each integration adds to an environment that has langchain-core already."""
    base = installed_bytes("langchain-core")
    package = Path(__file__).parents[1] / "refrase_integrations"
    ours = installed_bytes("refrase-integrations", ["langchain"])
    ours["refrase-integrations"] = sum(
        file.stat().st_size for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc"
    )
    added = {"ChatKimi": ours}
    if installed("langchain_openai"):
        added["ChatOpenAI"] = installed_bytes("langchain-openai")
    row = Row("added install size", "MB", {}, goals=(("ChatOpenAI", 1.0),))
    sums = {name: sum(size for part, size in parts.items() if part not in base) for name, parts in added.items()}
    return Result(row, {name: size / 1e6 for name, size in sums.items()})


# -- the command -------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Measure, print the table, write the JSON file; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds of each row")
    parser.add_argument("--only", default="", help="measure only rows whose name holds this text")
    parser.add_argument("--here", action="store_true", help="measure what is installed here, not every peer")
    parser.add_argument("--json", type=Path, help=f"write all figures to this file; of a whole run: {FIGURES}")
    chosen = parser.parse_args(arguments)
    status = None if chosen.here else elsewhere("speed", arguments, PEERS)
    if status is not None:
        return status
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # importing it would ask the network else
    results: list[Result] = []
    loop = Loop()
    with serving() as server:
        rows = [
            *streams(server, loop),
            *llamaindex_streams(server, loop),
            *calls(server),
            *constructions(server),
            *preparing(server),
            *concurrency(server, loop),
            *imports(),
        ]
        for row in rows:
            if chosen.only in row.name:
                result = measure(row, chosen.rounds)
                results.append(result)
                print_result(result)
        loop.close()
    if not chosen.only:
        results.append(sizes())
        print_result(results[-1])
    missed = [verdict for result in results for verdict in result.verdicts() if not verdict.met]
    path = chosen.json or (None if chosen.only else FIGURES)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_json(results), indent=1) + "\n", encoding="utf-8")
        print(f"\nall figures: {path}")
    print(f"\n{'every goal is met' if not missed else f'{len(missed)} goal(s) missed'}")
    return 1 if missed else 0


def print_result(result: Result) -> None:
    """Print one row with its verdicts."""
    figures = ", ".join(f"{name} {figure:.1f}" for name, figure in result.figures.items())
    print(f"{result.row.name} [{result.row.unit}]: {figures}")
    for verdict in result.verdicts():
        print(f"    {verdict}")
    sys.stdout.flush()


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return everything that was measured, and on what."""
    names = ("openai", "langchain-core", "langchain-openai", "langchain-moonshot", "llama-index-core", "litellm")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
        "rows": [
            {
                "name": result.row.name,
                "unit": result.row.unit,
                "figures": result.figures,
                "verdicts": [{**verdict._asdict(), "met": verdict.met} for verdict in result.verdicts()],
            }
            for result in results
        ],
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
