"""From a host's answer to a typed error: each row of the table with the real words of a host."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

import openai
import pytest

from refrase_integrations import errors
from refrase_integrations.client.connection import connect
from refrase_integrations.client.failures import CAUSES, answered, meaning
from refrase_integrations.client.sdk import send
from tests.client.loopback import KEY, RawServer, http, request

Serve = Callable[..., RawServer]


def _answered(status: int | None, payload: Any, *, text: str = "Is water wet?", key: str = KEY, **kwargs: Any) -> Any:
    prepared = request(text, **kwargs)
    connection = connect(prepared.call.dialect.host.id, "http://127.0.0.1:9/v1", key)
    return answered(status, payload, prepared.body, prepared.call.dialect, connection)


def _moonshot(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


REAL = [
    # platform.kimi.ai/docs/api/errors (copy of 2026-08-18)
    (400, _moonshot("content_filter", "The request was rejected because it was considered high risk"), "ContentFiltered"),
    (400, _moonshot("invalid_request_error", "Input token length too long"), "ContextOverflow"),
    (401, _moonshot("invalid_authentication_error", "Invalid Authentication"), "WrongKey"),
    (401, _moonshot("incorrect_api_key_error", "Incorrect API key provided"), "WrongKey"),
    (403, _moonshot("permission_denied_error", "The API you are accessing is not open"), "AccessDenied"),
    (
        404,
        _moonshot("resource_not_found_error", "Not found the model kimi-k2-0711-preview or Permission denied"),
        "ModelNotFound",
    ),
    (429, _moonshot("engine_overloaded_error", "The engine is currently overloaded, please try again later"), "HostOverloaded"),
    (
        429,
        _moonshot(
            "rate_limit_reached_error",
            "Your account request reached organization max concurrency: 1, please try again after 1 seconds",
        ),
        "RateLimited",
    ),
    (429, _moonshot("rate_limit_reached_error", "request reached organization TPD rate limit"), "RateLimited"),
    (
        429,
        _moonshot("exceeded_current_quota_error", "Your account is not active, please check your plan and billing details"),
        "QuotaExceeded",
    ),
    (499, _moonshot("client_closed_request", "Client closed request"), "HostFailed"),
    (500, _moonshot("server_error", "Failed to create chat completion"), "HostFailed"),
    (500, _moonshot("unexpected_output", "invalid state transition"), "HostFailed"),
    (503, _moonshot("server_unavailable", "Service unavailable"), "HostOverloaded"),
    (504, None, "RequestTimedOut"),
    # MoonshotAI/kimi-cli#2011, vllm
    (400, _moonshot("invalid_request_error", "Your request exceeded model token limit: 262144 (requested: 269030)"), "ContextOverflow"),
    (
        400,
        {"message": "This model's maximum context length is 131072 tokens. However, you requested 140000", "code": 400},
        "ContextOverflow",
    ),
    # kilocode#5544; inspect_ai#5156, litellm#29687; oh-my-pi#827, inspect_ai#5152
    (
        400,
        _moonshot(
            "invalid_request_error",
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
        ),
        "ReasoningMissing",
    ),
    (400, _moonshot("invalid_request_error", "invalid temperature: only 1 is allowed for this model"), "SamplingRefused"),
    (400, _moonshot("invalid_request_error", "invalid temperature: only 0.6 is allowed for this model"), "SamplingRefused"),
    (400, _moonshot("invalid_request_error", "invalid top_p: only 0.95 is allowed for this model"), "SamplingRefused"),
    (
        400,
        _moonshot("invalid_request_error", "tool_choice 'specified' is incompatible with thinking enabled"),
        "ToolChoiceRefused",
    ),
    (
        400,
        _moonshot("invalid_request_error", "tool_choice 'required' is incompatible with thinking enabled"),
        "ToolChoiceRefused",
    ),
    (
        400,
        _moonshot("invalid_request_error", "invalid thinking: only type=enabled is allowed for this model"),
        "ThinkingRefused",
    ),
    # nanobot#3939; kimi-cli#2061, #2531, opencode#27054, logfire#2191; kimi-cli#1773
    (400, _moonshot("invalid_request_error", "cannot specify both 'thinking' and 'reasoning_effort'"), "ThinkingRefused"),
    (
        400,
        _moonshot(
            "invalid_request_error",
            "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path "
            "'properties.a': type is not defined>",
        ),
        "SchemaRefused",
    ),
    (
        400,
        _moonshot(
            "invalid_request_error",
            "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes",
        ),
        "ToolNameRefused",
    ),
    # CLIProxyAPI#1730, kimi-code#1985; kimi-cli#1977, #2405; nanobot#4473; pi#4514; claude-code-router#337
    (
        400,
        _moonshot("invalid_request_error", "the message at position 82 with role 'assistant' must not be empty"),
        "HistoryRefused",
    ),
    (400, _moonshot("invalid_request_error", "text content is empty"), "HistoryRefused"),
    (
        400,
        _moonshot(
            "invalid_request_error",
            "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'",
        ),
        "HistoryRefused",
    ),
    (400, _moonshot("invalid_request_error", "tool call id grep:3 is duplicated"), "HistoryRefused"),
    (400, _moonshot("invalid_request_error", "Extra inputs are not permitted, field: 'messages[8].reasoning'"), "HistoryRefused"),
    (400, _moonshot("invalid_request_error", "property 'cache_control' is unsupported"), "HistoryRefused"),
    # cline#10307
    (
        403,
        _moonshot(
            "access_terminated_error",
            "Kimi For Coding is currently only available for Coding Agents such as Kimi CLI, Claude Code, Roo Code",
        ),
        "PlanRefused",
    ),
    # other hosts and other forms
    (402, {"error": {"message": "This request requires more credits, or fewer max_tokens", "code": 402}}, "QuotaExceeded"),
    (400, {"error": {"message": "moonshotai/kimi-x is not a valid model ID", "code": 400}}, "ModelNotFound"),
    (
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404},
        "ModelNotFound",
    ),
    (
        400,
        {"error": {"message": "The model `moonshotai/kimi-k2-instruct` has been decommissioned", "code": "model_decommissioned"}},
        "ModelNotFound",
    ),
    (404, {"detail": "Not Found"}, "WrongEndpoint"),
    (404, {"code": 5, "error": "url.not_found", "message": "not found", "scode": "0x5", "status": False}, "WrongEndpoint"),
    (405, {"detail": "Method Not Allowed"}, "WrongEndpoint"),
    (302, "", "WrongEndpoint"),
    (429, "Too Many Requests", "RateLimited"),
    (500, "<html><body>nginx</body></html>", "HostFailed"),
    (502, "Bad Gateway", "HostFailed"),
    (529, {"type": "overloaded_error"}, "HostOverloaded"),
    (409, {"error": {"message": "conflict"}}, "HostFailed"),
    (418, {"error": {"message": "no"}}, "RequestRefused"),
    (413, "Payload Too Large", "RequestRefused"),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "must be positive", "input": -1}]}, "RequestRefused"),
    (400, [{"error": {"message": "API key not valid. Please pass a valid API key.", "code": 400}}], "WrongKey"),
    (400, {"error": {"message": None, "type": None}}, "RequestRefused"),
    (400, {"error": "no"}, "RequestRefused"),
    (400, None, "RequestRefused"),
    # inside a stream: no status
    (None, {"code": 502, "message": "Upstream error"}, "HostFailed"),
    (None, {"code": 429, "message": "slow down"}, "RateLimited"),
    (None, {"type": "engine_overloaded_error", "message": "busy"}, "HostOverloaded"),
    (None, {"type": "exceeded_current_quota_error", "message": "no money"}, "QuotaExceeded"),
    (None, {"type": "server_error", "message": "broken"}, "HostFailed"),
    (None, {"type": "invalid_request_error", "message": "odd"}, "RequestRefused"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "payload", "name"), REAL)
def test_each_answer_of_a_host_becomes_its_error(status: int | None, payload: Any, name: str) -> None:
    error = _answered(status, payload)
    assert type(error).__name__ == name
    assert isinstance(error, errors.HostError)
    assert "[host moonshot, model kimi-k2.6" in str(error)  # what was seen
    assert len(error.advice) > 8  # what to do
    assert str(error).endswith(".")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)


def test_every_row_of_the_table_is_reached() -> None:
    assert {cause.error.__name__ for cause in CAUSES} <= {name for _, _, name in REAL}


RETRYABLE = {"HostOverloaded", "RateLimited", "HostFailed", "ConnectionFailed", "RequestTimedOut"}


@pytest.mark.parametrize(("status", "payload", "name"), REAL)
def test_only_what_may_pass_is_retryable(status: int | None, payload: Any, name: str) -> None:
    assert _answered(status, payload).retryable is (name in RETRYABLE)


def test_the_table_is_read_in_the_words_of_the_host_not_of_the_prompt() -> None:
    prompt = "Please explain the billing of rate limits and why tool_choice refuses context length."
    error = _answered(400, {"error": {"message": f"cannot parse: {prompt}"}}, text=prompt)
    assert type(error) is errors.RequestRefused
    assert error.seen == "cannot parse: …"


@pytest.mark.parametrize(
    "echo",
    [
        "{prompt}",
        "bad input '{prompt}' here",
        "[{{'input': '{prompt}'}}]",
        "{escaped}",
        "{start}",
        "…{end}",
    ],
)
@pytest.mark.parametrize(
    "prompt", ['My PIN is "4711"\nand the\tcode ëß.', "我的密码是四七一一，请不要告诉任何人，谢谢你。"]
)
def test_an_echo_of_the_prompt_is_taken_out(echo: str, prompt: str) -> None:
    import json

    said = echo.format(prompt=prompt, escaped=json.dumps(prompt), start=prompt[:20], end=prompt[-20:])
    seen = _answered(400, {"error": {"message": f"refused: {said}"}}, text=prompt).seen
    assert seen.startswith("refused: ")
    for at in range(len(prompt) - 12):
        assert prompt[at : at + 12] not in seen
        assert json.dumps(prompt[at : at + 12])[1:-1] not in seen


def test_arguments_reasoning_and_images_count_as_prompt() -> None:
    picture = "data:image/png;base64," + "QUJD" * 40
    messages = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "ms://private-picture-1"}}],
        },
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "secret thoughts of the model",
            "tool_calls": [
                {"id": "f:0", "type": "function", "function": {"name": "f", "arguments": '{"pin": "471147114711"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "f:0", "content": "the answer is forty-two"},
    ]
    said = f"bad {picture}; ms://private-picture-1; secret thoughts of the model; 471147114711; the answer is forty-two"
    prepared = request(messages=messages)
    error = answered(400, said, prepared.body, prepared.call.dialect, connect("moonshot", None, KEY))
    for secret in ("QUJD", "private-picture", "secret thoughts", "471147114711", "forty-two"):
        assert secret not in str(error)


def test_a_long_message_is_cut_and_a_huge_prompt_costs_little() -> None:
    error = _answered(400, "x" * 100_000, text="lorem ipsum dolor " * 50_000)
    assert len(error.seen) <= 400


@pytest.mark.parametrize(
    "said",
    [f"wrong key {KEY}", f"Bearer {KEY}", "wrong key sk-someone-elses-key-999", "tenant-42-secret", "q-value-77"],
)
def test_keys_headers_and_query_are_taken_out(said: str) -> None:
    prepared = request()
    connection = connect("moonshot", None, KEY, headers={"x-tenant": "tenant-42-secret"}, query={"code": "q-value-77"})
    error = answered(401, {"error": {"message": f"no: {said}"}}, prepared.body, prepared.call.dialect, connection)
    for secret in (KEY, "someone-elses", "tenant-42", "q-value"):
        assert secret not in str(error)
    assert error.seen.startswith("no: ")


def test_a_wrong_key_names_the_variable_and_the_hosts_whose_keys_look_alike() -> None:
    advice = _answered(401, _moonshot("invalid_authentication_error", "Invalid Authentication")).args[0]
    assert "MOONSHOT_API_KEY" in advice
    assert "host='moonshot-cn'" in advice
    assert "host='moonshot'" not in advice
    other = _answered(401, {"error": {"message": "no"}}, host="openrouter", model="kimi-k2")
    assert "OPENROUTER_API_KEY" in str(other)
    assert "moonshot" not in str(other).partition("].")[2]


def test_a_retired_model_names_its_replacement_and_who_still_serves_it() -> None:
    said = "Not found the model kimi-k2-0711-preview or Permission denied"
    error = _answered(404, _moonshot("resource_not_found_error", said), model="kimi-k2-0711-preview")
    assert isinstance(error, errors.ModelNotFound)
    assert "Use 'kimi-" in str(error)
    assert "novita" in str(error)
    live = _answered(404, _moonshot("resource_not_found_error", "Not found the model"), host="vllm")
    assert "Use '" not in str(live)


@pytest.mark.parametrize("value", ["2", "2.0", ""])
def test_how_long_to_wait_is_read_from_the_words_too(value: str) -> None:
    said = f"max concurrency: 1, please try again after {value or '3'} seconds"
    assert _answered(429, _moonshot("rate_limit_reached_error", said)).retry_after == float(value or 3)


def _date(seconds: float) -> str:
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25, 0.25),
        ({"retry-after": 60.0}, 40, 61),
        ({"retry-after": -60.0}, 0, 0),
        ({"retry-after": "0"}, 0, 0),
    ],
)
def test_every_form_of_retry_after(serve: Serve, headers: dict[str, str | float], low: float, high: float) -> None:
    """A float stands for the date so many seconds from now: it is made when the test runs."""
    dated = {name: _date(value) if isinstance(value, float) else value for name, value in headers.items()}
    server = serve(http(_moonshot("rate_limit_reached_error", "slow"), status=429, headers=dated))
    with pytest.raises(errors.RateLimited) as caught:
        list(send(request(), connect("moonshot", server.base_url, KEY), max_retries=0))
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "Mon, 99 Foo 2026", "", "9" * 400])
def test_a_retry_after_that_says_nothing_is_none(serve: Serve, value: str) -> None:
    server = serve(http(_moonshot("rate_limit_reached_error", "slow"), status=429, headers={"retry-after": value}))
    with pytest.raises(errors.RateLimited) as caught:
        list(send(request(), connect("moonshot", server.base_url, KEY), max_retries=0))
    assert caught.value.retry_after in (None, float("inf"))


def test_a_request_id_is_kept_for_the_hosts_support(serve: Serve) -> None:
    server = serve(http(_moonshot("server_error", "x"), status=500, headers={"x-request-id": "req-123"}))
    with pytest.raises(errors.HostFailed, match="request req-123") as caught:
        list(send(request(), connect("moonshot", server.base_url, KEY), max_retries=0))
    assert caught.value.request_id == "req-123"
    assert caught.value.status == 500


def test_every_error_can_be_pickled_and_copied() -> None:
    import copy

    made = [
        errors.MissingExtra("the demo", "cli"),
        errors.MissingKey("no key"),
        errors.StreamInterrupted.by(errors.HostFailed("x", status=500, host="h", model="m")),
        errors.EmptyReply("nothing"),
    ]
    for error in made:
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (type(again), str(again)) == (type(error), str(error))


def test_this_runs_on_both_lines_of_the_sdk() -> None:
    assert openai.__version__.partition(".")[0] in ("2", "3")


class _Boto(Exception):
    """As boto's ClientError says it."""

    def __init__(self, status: int) -> None:
        super().__init__("An error occurred: messages.1.content: text content is empty")
        self.response = {"Error": {"Code": "ValidationException"}, "ResponseMetadata": {"HTTPStatusCode": status}}


class _Other(Exception):
    """As the clients of the openai family say it."""

    def __init__(self, status: int | None, body: Any) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code, self.body = status, body


MISSING = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_Other(400, {"error": {"message": MISSING}}), errors.ReasoningMissing),
        (
            _Other(400, {"message": "the message at position 1 with role 'assistant' must not be empty"}),
            errors.HistoryRefused,
        ),
        (_Other(429, {"error": {"message": "slow down"}}), errors.RateLimited),
        (_Other(None, None), None),
        (_Boto(400), errors.HistoryRefused),
        (ValueError(MISSING), None),
    ],
)
def test_what_another_clients_exception_means(error: Exception, kind: Any) -> None:
    assert meaning(error) is kind
