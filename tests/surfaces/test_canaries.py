"""Canaries through every surface, in good calls and failed ones: what loggers, tracers, event handlers, reports,
errors, copies and serialized forms show. Traces and events hold the prompt, as users want them to; a key is in none."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumpd, dumps
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tracers.base import BaseTracer
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers.base import BaseEventHandler
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel
from typer.testing import CliRunner

import refrase_integrations
from refrase_integrations import langchain, llamaindex
from refrase_integrations.cli.app import create_cli
from refrase_integrations.errors import RefraseError
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.test_secrets import HEADER, KEY, PROMPT, QUERY, everything_said, find, leaks, told, variables

ASKED = PROMPT["user"]
SYSTEM = PROMPT["system"]
AUTHENTICATES = (KEY, HEADER, QUERY)
ECHO = f"cannot process '{ASKED}' and {SYSTEM!r} with Authorization: Bearer {KEY}, x-tenant {HEADER}, code={QUERY}"


class City(BaseModel):
    """A city."""

    name: str


class Tracer(BaseTracer):
    """Keeps every run, as LangSmith's tracer sends it."""

    def __init__(self) -> None:
        super().__init__()
        self.traced: list[str] = []

    def _persist_run(self, run: Any) -> None:
        self.traced.append(repr(run.__dict__) + dumps(run.serialized) + repr(run.extra) + repr(run.child_runs))


class Events(BaseEventHandler):
    """Keeps every event of LlamaIndex's instrumentation."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def class_name(cls) -> str:
        return "canaries"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(repr(event) + repr(event.model_dump()))


def chat(url: str, **fields: Any) -> Any:
    given = {"default_headers": {"x-tenant": HEADER}, "default_query": {"code": QUERY}, "max_retries": 0}
    return langchain.ChatKimi(host="moonshot", base_url=url, api_key=KEY, **{**given, **fields})


def kimi(url: str, **fields: Any) -> Any:
    given = {"default_headers": {"x-tenant": HEADER}, "default_query": {"code": QUERY}, "max_retries": 0}
    return llamaindex.Kimi(host="moonshot", base_url=url, api_key=KEY, **{**given, **fields})


def wrapped(url: str) -> Any:
    inner = ChatOpenAI(model="kimi-k2.6", base_url=url, api_key=KEY, max_retries=0)
    return langchain.with_kimi_practices(inner, host="moonshot")


def graph(url: str) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("refrase", langchain.RefraseNode())
    builder.add_node("model", lambda state: {"messages": [chat(url).invoke(state["messages"])]})
    builder.add_edge(START, "refrase")
    builder.add_edge("refrase", "model")
    return builder.compile()


def agent(url: str) -> Any:
    return create_agent(wrapped(url), [find], middleware=[langchain.KimiMiddleware()])


MESSAGES = [SystemMessage(SYSTEM), HumanMessage(ASKED)]
HISTORY = [ChatMessage(role="system", content=SYSTEM), ChatMessage(role="user", content=ASKED)]
QUESTION = PromptTemplate("{system} {asked}")

CALLS: dict[str, Callable[[str, Any], Any]] = {
    "ChatKimi": lambda url, traced: chat(url).bind_tools([find]).invoke(MESSAGES, traced),
    "ChatKimi, async": lambda url, traced: asyncio.run(chat(url).ainvoke(MESSAGES, traced)),
    "ChatKimi, stream": lambda url, traced: list(chat(url).stream(MESSAGES, traced)),
    "ChatKimi, batch": lambda url, traced: chat(url).batch([MESSAGES], traced),
    "ChatKimi, structured": lambda url, traced: chat(url).with_structured_output(City, include_raw=True).invoke(MESSAGES, traced),
    "a wrapped ChatOpenAI": lambda url, traced: wrapped(url).bind_tools([find]).invoke(MESSAGES, traced),
    "a wrapped ChatOpenAI, stream": lambda url, traced: list(wrapped(url).stream(MESSAGES, traced)),
    "KimiMiddleware": lambda url, traced: agent(url).invoke({"messages": MESSAGES}, traced),
    "RefraseNode": lambda url, traced: graph(url).invoke({"messages": MESSAGES}, traced),
    "Refraser": lambda url, traced: langchain.Refraser(chat(url)).rewrite(f"{SYSTEM} {ASKED}"),
    "Kimi": lambda url, traced: kimi(url, **traced).chat(HISTORY),
    "Kimi, async": lambda url, traced: asyncio.run(kimi(url, **traced).achat(HISTORY)),
    "Kimi, stream": lambda url, traced: list(kimi(url, **traced).stream_chat(HISTORY)),
    "Kimi, complete": lambda url, traced: kimi(url, **traced).complete(f"{SYSTEM} {ASKED}"),
    "Kimi, tools": lambda url, traced: kimi(url, **traced).chat_with_tools([find], chat_history=HISTORY),
    "Kimi, structured": lambda url, traced: kimi(url, **traced).structured_predict(City, QUESTION, system=SYSTEM, asked=ASKED),
    "Kimi, Refraser": lambda url, traced: llamaindex.Refraser(kimi(url)).rewrite(f"{SYSTEM} {ASKED}"),
    "RefraseStep": lambda url, traced: llamaindex.RefraseStep().run(HISTORY),
}  # fmt: skip
"""One call through each surface; the second argument traces it in the way of its framework."""


UNTRACED = ("Refraser", "Kimi, Refraser", "RefraseStep")


def traces(surface: str) -> tuple[Any, Callable[[], list[str]]]:
    """Return what traces a call of a surface, and what it has seen."""
    if surface.startswith(("Kimi", "RefraseStep")) and surface != "KimiMiddleware":
        debug = LlamaDebugHandler(print_trace_on_end=False)
        events = Events()
        events.seen.clear()
        get_dispatcher().add_event_handler(events)
        return {"callback_manager": CallbackManager([debug])}, lambda: [*events.seen, repr(debug.get_event_pairs())]
    tracer = Tracer()
    return {"callbacks": [tracer]}, lambda: tracer.traced


def authenticates(text: str) -> list[str]:
    return [secret for secret in leaks(text) if secret in AUTHENTICATES]


@pytest.mark.parametrize("surface", CALLS)
def test_a_good_call_shows_no_secret(surface: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = Reply('{"name": "Paris"}', reasoning="Hm.")
    traced, seen = traces(surface)
    with KimiSimulator(script=lambda body: answer) as simulator, everything_said(caplog) as said:
        reply = CALLS[surface](simulator.base_url, traced)
        records = repr(simulator) + repr(simulator.requests)
        kept = repr([request.headers for request in simulator.requests])
    assert leaks("\n".join(theirs_without_bodies(said))) == []
    assert leaks(records) == []
    assert authenticates(kept) in ([], [HEADER])  # a header of the user's own is no key to the simulator
    assert authenticates("\n".join(seen())) == []
    assert ASKED in "\n".join(seen()) or surface in UNTRACED  # traces were seen at all
    assert authenticates(repr(reply)) == []
    assert leaks(repr(reports(reply))) == []


def theirs_without_bodies(said: list[str]) -> list[str]:
    """Leave out what another maker's package writes of itself at DEBUG: openai logs the options of each request, and
    so the prompt of a model of LangChain's own; a key is in none of it."""
    assert authenticates("\n".join(said)) == []
    return [text for text in said if not text.startswith(("openai", "llama_index", "langchain_openai"))]


def reports(reply: Any) -> list[Any]:
    """Return every report in a reply."""
    found: list[Any] = []
    rest = [reply]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            found += [value for key, value in one.items() if key in ("refrase", "refrase_report")]
            rest += one.values()
        elif isinstance(one, (list, tuple)):
            rest += one
        else:
            rest += [
                getattr(one, name) for name in ("response_metadata", "additional_kwargs", "raw") if hasattr(one, name)
            ]
    return found


FAILURES = {
    "a refused key": Reply(status=401, error_type="incorrect_api_key_error", message=ECHO),
    "a refused request": Reply(status=400, error_type="invalid_request_error", message=ECHO),
    "a page": Reply(chunks=[f"<html>{ECHO}</html>"]),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(
    "surface", [name for name in CALLS if "wrapped" not in name and name not in ("KimiMiddleware", "RefraseStep")]
)
def test_a_failed_call_shows_no_secret(surface: str, failure: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a wrapped model raises is its own."""
    traced, seen = traces(surface)
    with (
        KimiSimulator(script=lambda body: FAILURES[failure], strict=False) as simulator,
        everything_said(caplog) as said,
    ):
        with pytest.raises(RefraseError) as caught:
            CALLS[surface](simulator.base_url, traced)
    assert leaks(told(caught.value)) == []
    assert leaks("\n".join(theirs_without_bodies(said))) == []
    assert authenticates("\n".join(seen())) == []
    assert KEY not in variables(caught.value)
    assert leaks(pickle.dumps(copy.copy(caught.value)).decode("latin-1")) == []


FORMS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "pickle": lambda one: pickle.dumps(one).decode("latin-1"),
    "pickled copy": lambda one: pickle.dumps(copy.deepcopy(one)).decode("latin-1"),
    "model_dump": lambda one: repr(one.model_dump()),
    "JSON": lambda one: one.model_dump_json(exclude_none=True),
}
OF_LANGCHAIN: dict[str, Callable[[Any], str]] = {
    "dumps": dumps,
    "dumpd": lambda one: repr(dumpd(one)),
    "to_json": lambda one: repr(one.to_json()),
    "identifying params": lambda one: repr(one._identifying_params),
    "LangSmith params": lambda one: repr(one._get_ls_params(stop=["x"], temperature=0.5)),
    "cache key": lambda one: one._get_llm_string(),
    "attributes": lambda one: repr(one.lc_attributes) + repr(one.profile),
}
OF_LLAMAINDEX: dict[str, Callable[[Any], str]] = {
    "to_dict": lambda one: repr(one.to_dict()),
    "to_json": lambda one: one.to_json(),
    "payload": lambda one: repr(getattr(one, "to_payload", one.to_dict)()),
    "metadata": lambda one: repr(one.metadata),
    "within another": lambda one: repr(one.as_structured_llm(City).to_dict()),
}
MODELS = {
    "ChatKimi": (chat, OF_LANGCHAIN),
    "a wrapped ChatOpenAI": (wrapped, OF_LANGCHAIN),
    "Kimi": (kimi, OF_LLAMAINDEX),
}


@pytest.mark.parametrize(
    ("model", "form"), [(model, form) for model, (_, own) in MODELS.items() for form in (*FORMS, *own)]
)
def test_no_form_of_a_model_shows_a_secret(model: str, form: str) -> None:
    build, own = MODELS[model]
    if model == "a wrapped ChatOpenAI" and form in ("model_dump", "JSON"):
        pytest.skip("pydantic's dump holds the inner model's own dump, which masks its key itself")
    shown = {**FORMS, **own}[form](build("http://127.0.0.1:9/v1"))
    assert [secret for secret in leaks(shown) if secret != HEADER] == []
    assert "pickle" in form or leaks(shown) == []  # a header of the user's own that is no login may be needed again


@pytest.mark.parametrize("package", [langchain, llamaindex])
def test_formula_tools_show_no_secret(package: Any, caplog: pytest.LogCaptureFixture) -> None:
    with KimiSimulator() as simulator, everything_said(caplog) as said:
        settings = {"host": "moonshot", "base_url": simulator.base_url, "api_key": KEY, "max_retries": 0}
        [tool] = package.formula_tools(["fetch"], **settings)
        shown = repr(tool) + str(tool) + repr(getattr(tool, "metadata", ""))
        run = tool.invoke if package is langchain else lambda arguments: tool.call(**arguments)
        run({"url": f"https://x.example/?q={PROMPT['arguments']}"})
        with pytest.raises(RefraseError) as caught:
            package.formula_tools(["no-such-formula"], **settings)
    assert authenticates(shown) == []
    assert leaks("\n".join(said)) == []
    assert authenticates(told(caught.value)) == []
    assert KEY not in variables(caught.value)


def test_the_simulate_command_shows_no_key() -> None:
    with KimiSimulator() as simulator:
        taken = simulator.base_url.rpartition(":")[2].partition("/")[0]
        result = CliRunner().invoke(create_cli(), ["simulate", "--port", taken, "--api-key", KEY])
    assert isinstance(result.exception, RefraseError)
    assert leaks(result.output + told(result.exception)) == []


def test_no_logger_of_the_package_writes_prompts() -> None:
    """There is no switch for it: whoever wants prompts in a log uses a tracer. The tests above see all our loggers."""
    ours = [name for name in logging.root.manager.loggerDict if name.startswith(refrase_integrations.__name__)]
    assert set(ours) <= {"refrase_integrations", "refrase_integrations.simulator"}
