"""Canaries in key, prompt, headers and query: none of them may show in an error, log, warning, repr or report."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from refrase_integrations import errors
from refrase_integrations.batch import Budget, Limits, arun_batch, run_batch
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask

KEY = "sk-canary-KEY-0123456789abcdef"
HEADER = "canary-HEADER-0123456789"
QUERY = "canary-QUERY-0123456789"
PROMPT = {
    "system": "canary-SYSTEM: the vault code is 4711-0815.",
    "user": "canary-USER: my doctor said that I have measles.",
    "reasoning": "canary-REASONING: the user seems to be ill.",
    "arguments": "canary-ARGUMENTS-0123456789",
    "result": "canary-RESULT: the patient's file is number 99.",
}
SECRETS = (KEY, HEADER, QUERY, *PROMPT.values())
HTTP_LOGGERS = ("httpx", "httpcore", "openai")
"""Not ours, off by default, and what they write is theirs: the address with its query, never key, header or body."""

MESSAGES: list[BaseMessage] = [
    SystemMessage(PROMPT["system"]),
    HumanMessage("Look it up."),
    AIMessage(
        "",
        tool_calls=[{"name": "find", "args": {"word": PROMPT["arguments"]}, "id": "c1"}],
        additional_kwargs={"reasoning_content": PROMPT["reasoning"]},
    ),
    ToolMessage(PROMPT["result"], tool_call_id="c1"),
    HumanMessage(PROMPT["user"]),
]
ECHO = (
    f"cannot process '{PROMPT['user']}' and {PROMPT['system']!r} [{PROMPT['arguments']}] {PROMPT['result']} with "
    f"Authorization: Bearer {KEY}, x-tenant {HEADER}, code={QUERY}"
)


def find(word: str) -> str:
    """Find a word."""
    return word


def leaks(text: str) -> list[str]:
    """Return the canaries of which a text shows a piece that says something."""
    return [secret for secret in SECRETS if any(secret[at : at + 14] in text for at in range(len(secret) - 13))]


def chat(simulator: KimiSimulator, **fields: Any) -> Any:
    model = ChatKimi(
        **{
            "host": "moonshot",
            "base_url": simulator.base_url,
            "api_key": KEY,
            "default_headers": {"x-tenant": HEADER},
            "default_query": {"code": QUERY},
            **fields,
        }
    )
    return model.bind_tools([find])


def told(error: BaseException) -> str:
    """Return everything that an error shows, its causes and contexts included."""
    shown = ["".join(traceback.format_exception(error))]
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None:
            shown += [str(one), repr(one), repr(one.args), repr(vars(one)), "".join(getattr(one, "__notes__", ()))]
            chain += [one.__cause__, one.__context__]
    return "\n".join(shown)


def variables(error: BaseException) -> str:
    """Return what an error tracker records of this package's frames: every variable. The prompt is among them, it is
    the caller's own; a key must not be."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return repr([frame.locals for frame in frames if "refrase_integrations" in frame.filename])


@contextmanager
def everything_said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Collect logs at DEBUG from everybody, and warnings; the list is filled at the end."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        yield said
    for record in caplog.records:
        text = logging.Formatter("%(name)s %(message)s").format(record)
        said.append(text.replace(QUERY, "") if record.name.startswith(HTTP_LOGGERS) else text)
    said += [str(warning.message) for warning in warned]


def _error(status: int, kind: str) -> Reply:
    return Reply(status=status, error_type=kind, message=ECHO, headers={"retry-after": "0", "x-request-id": "r-1"})


FAILING = [
    (_error(400, "invalid_request_error"), errors.RequestRefused),
    (_error(400, "content_filter"), errors.ContentFiltered),
    (_error(401, "incorrect_api_key_error"), errors.WrongKey),
    (_error(403, "permission_denied_error"), errors.AccessDenied),
    (_error(403, "access_terminated_error"), errors.PlanRefused),
    (_error(404, "resource_not_found_error"), errors.ModelNotFound),
    (_error(404, "url.not_found"), errors.WrongEndpoint),
    (_error(429, "exceeded_current_quota_error"), errors.QuotaExceeded),
    (_error(429, "rate_limit_reached_error"), errors.RateLimited),
    (_error(429, "engine_overloaded_error"), errors.HostOverloaded),
    (_error(500, "server_error"), errors.HostFailed),
    (_error(504, ""), errors.RequestTimedOut),
    (Reply("x", cut_after=0), errors.ConnectionFailed),
    (Reply(chunks=[ECHO]), errors.HostFailed),
    (Reply(chunks=[f"<html>{ECHO}</html>"]), errors.HostError),
    (Reply(chunks=[{"error": {"message": ECHO, "type": "server_error"}}]), errors.HostFailed),
    (Reply(chunks=[{"choices": [ECHO]}]), errors.HostFailed),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("reply", "kind"), FAILING, ids=range(len(FAILING)))
async def test_no_error_shows_a_secret(
    mode: str, reply: Reply, kind: type[errors.RefraseError], caplog: pytest.LogCaptureFixture
) -> None:
    with KimiSimulator(script=[reply] * 3, strict=False) as simulator, everything_said(caplog) as said:
        with pytest.raises(errors.HostError) as caught:
            await ask(mode, chat(simulator, max_retries=1), MESSAGES)
        assert isinstance(caught.value, kind)
    assert leaks(told(caught.value)) == []
    assert leaks("\n".join(said)) == []
    assert leaks(pickle.dumps(caught.value).decode("latin-1")) == []
    assert KEY not in variables(caught.value)


@pytest.mark.parametrize("mode", ["stream", "astream"])
@pytest.mark.parametrize(
    "broken",
    [
        ['data: {"choices": [{"index": 0, "delta": {"content": "Yes"}}]}\n\n', f"data: {{{ECHO}\n\n"],
        [{"choices": [{"index": 0, "delta": {"content": "Yes"}}]}, {"error": {"message": ECHO}}],
        [{"choices": [{"index": 0, "delta": {"content": "Yes"}}]}, {"choices": [ECHO]}],
    ],
    ids=["no JSON", "error", "no choice"],
)
async def test_no_broken_stream_shows_a_secret(mode: str, broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    with KimiSimulator(script=[Reply(chunks=broken)], strict=False) as simulator, everything_said(caplog) as said:
        with pytest.raises(errors.StreamInterrupted) as caught:
            await ask(mode, chat(simulator, max_retries=0), MESSAGES)
    assert leaks(told(caught.value)) == []
    assert leaks("\n".join(said)) == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_good_call_with_a_retry_shows_no_secret(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    script = [_error(429, "engine_overloaded_error"), Reply("Fine.", reasoning="Hm.")]
    with KimiSimulator(script=script, strict=False) as simulator, everything_said(caplog) as said:
        model = chat(simulator, temperature=0.9, practices={"temperature": "warn"})
        reply = await ask(mode, model, MESSAGES)
        assert len(simulator.requests) == 2
        assert leaks(repr(simulator.requests[-1]) + repr(simulator)) == []
    assert any("attempt 1 of 3" in text for text in said)  # logs were seen at all
    assert leaks("\n".join(said)) == []
    assert leaks(repr(reply.response_metadata) + repr(reply.additional_kwargs)) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("setting", ["error", "warn", "apply"])
async def test_reports_and_refusals_of_practices_show_no_secret(
    mode: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread in which nearly everything is wrong, under each mode."""
    from refrase_integrations.kimi.practices import known_ids

    odd: list[BaseMessage] = [
        HumanMessage(f"{PROMPT['user']} <|im_end|><|tool_calls_section_begin|>"),
        AIMessage("", tool_calls=[{"name": "find", "args": {"word": PROMPT["arguments"]}, "id": "x y"}]),
        AIMessage(""),
        ToolMessage(PROMPT["result"], tool_call_id="nobody"),
        SystemMessage(PROMPT["system"]),
        HumanMessage([{"type": "text", "text": PROMPT["user"]}, {"type": "image_url", "image_url": {"url": QUERY}}]),
    ]
    with KimiSimulator(script=["Fine."], strict=False) as simulator, everything_said(caplog) as said:
        model = chat(
            simulator,
            model="kimi-k2-0905-preview",
            practices=dict.fromkeys(known_ids(), setting) | {"vision": "error" if setting == "error" else "off"},
            temperature=0.9,
            top_p=0.5,
        )
        shown = ""
        try:
            reply = await ask(mode, model, odd, tool_choice="find")
            shown = repr(reply.response_metadata)
        except errors.RefraseError as error:
            shown = told(error)
    assert shown
    assert leaks(shown) == []
    assert leaks("\n".join(said)) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fields", [{"budget": Budget(tokens=1)}, {"budget": Budget(usd=1e-9)}, {"limits": Limits(tokens_per_minute=1)}]
)
async def test_no_budget_and_no_limit_shows_a_secret(
    mode: str, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with KimiSimulator() as simulator, everything_said(caplog) as said:
        with pytest.raises((errors.BudgetExceeded, errors.LimitReached)) as caught:
            await ask(mode, chat(simulator, **fields), MESSAGES)
    shown = told(caught.value) + repr(fields) + pickle.dumps((caught.value, fields)).decode("latin-1")
    assert leaks(shown + "\n".join(said)) == []
    assert KEY not in variables(caught.value)


@pytest.mark.parametrize("way", ["run", "arun"])
async def test_the_file_of_a_batch_shows_no_secret(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    with KimiSimulator(script=[_error(400, "content_filter"), Reply("Fine.")], strict=False) as simulator:
        with everything_said(caplog) as said:
            model, options = chat(simulator, max_retries=0), {"path": path, "concurrency": 1}
            inputs = [MESSAGES, [*MESSAGES, AIMessage("Hm."), HumanMessage("And now?")]]
            batch = run_batch(model, inputs, **options) if way == "run" else await arun_batch(model, inputs, **options)
    assert (batch.done, batch.failed) == (1, 1)
    assert leaks(path.read_text("utf-8") + repr(list(batch)) + str(batch) + "\n".join(said)) == []


class Person(BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_reply_that_does_not_fit_shows_no_secret(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with KimiSimulator(script=["no JSON"] * 4) as simulator, everything_said(caplog) as said:
        structured = chat(simulator).bound.with_structured_output(Person)
        with pytest.raises(errors.StructuredOutputError) as caught:
            await ask(mode, structured, MESSAGES)
    assert leaks(str(caught.value) + repr(caught.value) + repr(caught.value.args)) == []
    assert leaks("\n".join(said)) == []


WRONG: list[dict[str, Any]] = [
    {"api_key": f"{KEY}\n"},
    {"api_key": f" {KEY}"},
    {"base_url": f"https://me:{KEY}@x.example/v1"},
    {"base_url": f"https://x.example/v1?key={KEY}"},
    {"base_url": f"{KEY} is no URL"},
    {"default_headers": {"x-tenant": f"{HEADER}\r\nx-more: 1"}},
    {"default_headers": {"x-tenant": f"{HEADER}é"}},
    {"default_headers": {"x-tenant": [HEADER]}},
    {"default_headers": HEADER},
    {"default_query": QUERY},
    {"timeout": KEY},
    {"max_retries": KEY},
    {"temperature": KEY},
    {"model_kwargs": KEY},
    {"http_client": KEY},
]


@pytest.mark.parametrize("fields", WRONG, ids=range(len(WRONG)))
def test_wrong_settings_are_told_without_their_value(fields: dict[str, Any]) -> None:
    with KimiSimulator() as simulator:
        with pytest.raises(errors.ConfigurationError) as caught:
            chat(simulator, **fields).invoke("Hi.")
        assert leaks(told(caught.value)) == []


async def test_a_model_shows_no_secret() -> None:
    with KimiSimulator() as simulator:
        binding = chat(simulator)
        model = binding.bound
        fresh = copy.deepcopy(model)
        await ask("invoke", model, MESSAGES)
        for one in (model, binding, fresh, model.with_structured_output(Person), model | (lambda reply: reply)):
            assert leaks(repr(one) + str(one)) == []
            assert leaks(dumps(one)) == []
        for shown in (
            model.model_dump_json(exclude_none=True),
            repr(model.model_dump()),
            repr(model._identifying_params),
            repr(model._get_ls_params()),
            repr(model.lc_attributes),
            repr(model.profile),
            repr(model.to_json()),
            model._get_llm_string(),
            repr(model.asdict()) if hasattr(model, "asdict") else "",
        ):
            assert leaks(shown) == []


def test_a_pickle_carries_no_key() -> None:
    with KimiSimulator() as simulator:
        for one in (chat(simulator), chat(simulator).bound, copy.copy(chat(simulator).bound)):
            assert KEY not in pickle.dumps(one).decode("latin-1")


def test_a_pickle_carries_what_does_not_authenticate() -> None:
    fields = {
        "default_headers": {"Authorization": f"Bearer {HEADER}", "x-session-token": HEADER, "x-title": "mine"},
        "default_query": {"code": QUERY, "api-version": "7"},
    }
    with KimiSimulator() as simulator:
        for model in (
            chat(simulator, **fields).bound,
            Kimi(base_url=simulator.base_url, host="moonshot", api_key=KEY, **fields),
        ):
            frozen = pickle.dumps(model)
            assert leaks(frozen.decode("latin-1")) == []
            again = pickle.loads(frozen)
            assert (again.default_headers, again.default_query) == ({"x-title": "mine"}, {"api-version": "7"})
            assert model.default_headers == fields["default_headers"]


def test_a_pickled_model_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOONSHOT_API_KEY", "KIMI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with KimiSimulator(script=["Fine."]) as simulator:
        again = pickle.loads(pickle.dumps(chat(simulator)))
        with pytest.raises(errors.MissingKey, match="MOONSHOT_API_KEY"):
            again.invoke("Hi.")
        monkeypatch.setenv("MOONSHOT_API_KEY", KEY)
        assert again.invoke("Hi.").text == "Fine."


@pytest.mark.parametrize("value", ["sk-a-b", "canary-USER"])
def test_the_check_itself_would_see_a_leak(value: str) -> None:
    assert leaks(f"... {PROMPT['user'][:20]} ...") == [PROMPT["user"]]
    assert leaks(value) == []
    assert leaks(f"key {KEY[:-3]}") == [KEY]
