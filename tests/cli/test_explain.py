"""``explain``: the right cause for each failure mode, and a request that a strict host then takes."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from refrase_integrations.client.explanations import explain, read_case
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.cli.command import failed, run, said
from tests.failures import test_f02_sampling_fixed as f02
from tests.failures import test_f04_schemas_refused as f04
from tests.failures import test_f10_blank_content as f10
from tests.failures import test_f11_interrupted_calls as f11
from tests.failures import test_f16_tool_names as f16
from tests.failures import test_f18_foreign_fields as f18
from tests.surfaces import called, result, tool, user

OPEN = "moonshotai/Kimi-K2-Instruct-0905"
WEATHER = {"tools": [tool("get_weather", city="string"), tool("get_time", city="string")]}
PARIS = ("get_weather", {"city": "Paris"})
ASKED = [user("Weather in Paris?")]
CALL = called(("c-1", *PARIS))


@dataclass(eq=False)
class Failure:
    """One way to fail: what is sent where, and what becomes of it without us."""

    mode: str
    model: str
    messages: list[Any] = field(default_factory=lambda: ASKED)
    fields: dict[str, Any] = field(default_factory=dict)
    persona: str = "moonshot"
    script: list[Any] | None = None
    quirks: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    """In the host's refusal; empty: it answers, and the answer is no good."""
    api_key: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        return {"model": self.model, "messages": self.messages, **self.fields}


def of_sampling(case: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    fields = dict(case[1])
    if fields.pop("thinking", None) is False:
        fields["thinking"] = {"type": "disabled"}
    return fields


REFUSED = [
    Failure("F1", "kimi-k2.6", [*ASKED, CALL, result("c-1")], WEATHER, words="reasoning_content is missing"),
    *(Failure("F2", "kimi-k2.6", f02.ASKED, of_sampling(case), words=words) for words, case in f02.CASES.items()),
    Failure("F3", "kimi-k2.6", fields={**WEATHER, "tool_choice": "required"}, words="'required' is incompatible"),
    Failure(
        "F3", "kimi-k2.6", fields={**WEATHER, "tool_choice": {"type": "function", "function": {"name": "get_time"}}},
        words="'specified' is incompatible",
    ),
    Failure("F3", "kimi-k2.7-code", fields={"thinking": {"type": "disabled"}}, words="only type=enabled is allowed"),
    *(Failure("F4", f04.MODEL, f04.ASKED, f04.tools(case[0]), words=words) for words, case in f04.CASES.items()),
    Failure("F6", "kimi-k2-0905-preview", [*ASKED, CALL, result("c-1"), CALL, result("c-1")], WEATHER, words="duplicated"),
    *(Failure("F10", f10.MODEL, messages, words=words) for words, messages in f10.BLANK.items()),
    *(Failure("F11", f11.MODEL, thread, f11.CALL, words="must be followed by tool messages") for thread in f11.THREADS.values()),
    *(Failure("F16", f16.MODEL, f16.ASKED, {"tools": [tool(name)]}, words="function name is invalid") for name in f16.NAMES),
    Failure(
        "F17", "kimi-k2.6", fields={"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, words="cannot specify both",
    ),
    *(
        Failure("F18", f18.MODELS[host], messages, persona=host, words=words.replace("\\", ""))
        for host, (messages, words) in f18.CASES.items()
    ),
    Failure("F22", "kimi-k2.6", api_key="sk-other-region", words="Invalid Authentication"),
    Failure(
        "F22", "kimi-k2.6", script=[Reply(status=403, error_type="access_terminated_error", message="For Coding Agents only")],
        words="Coding Agents",
    ),
    Failure(
        "F23", "kimi-k2.6", script=[Reply(status=429, error_type="engine_overloaded_error", message="The engine is overloaded")],
        words="overloaded",
    ),
    Failure(
        "F23", "kimi-k2.6", script=[Reply(status=429, error_type="exceeded_current_quota_error", message="Please top up")],
        words="top up",
    ),
    Failure(
        "F24", "kimi-k2-0711-preview",
        [user("Read this: " + "word " * 200_000), {"role": "assistant", "content": "Done."}, user("And now?")],
        words="exceeded model token limit",
    ),
]  # fmt: skip
LIMIT = {"max_tokens": 20_000}
TODOS = tool(
    "write_todos", todos={"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}}
)
ONE_CALL = Reply("I look. ", reasoning="Hm.", tool_calls=[PARIS])
TWO_CALLS = [Reply(tool_calls=[PARIS, ("get_weather", {"city": "Rome"})])]
WRITTEN = ("write_todos", {"todos": [{"text": "milk\nand\tbread"}]})
COUNTED = {"prompt_tokens": 300, "completion_tokens": 5, "total_tokens": 305, "cached_tokens": 256}
LOOP = [message for n in range(9) for message in (called((f"c-{n}", *PARIS)), result(f"c-{n}"))]
ANSWERED = [
    Failure("F5", OPEN, [*ASKED, called(("call_abc", *PARIS)), result("call_abc")], WEATHER, "vllm", [ONE_CALL]),
    Failure("F7", OPEN, fields=WEATHER, persona="vllm", script=[ONE_CALL], quirks={"leak_tool_calls": True}),
    Failure("F7", "moonshotai/Kimi-K2-Thinking", fields=WEATHER, persona="vllm", script=[ONE_CALL], quirks={"leak_in_reasoning": True}),
    Failure("F8", OPEN, fields={**WEATHER, "stream": True}, persona="vllm", script=[ONE_CALL], quirks={"lost_calls": True}),
    Failure("F9", OPEN, fields={**WEATHER, "stream": True}, persona="vllm", script=TWO_CALLS, quirks={"missing_index": True}),
    Failure("F9", OPEN, fields={**WEATHER, "stream": True}, persona="vllm", script=TWO_CALLS, quirks={"wrong_index": True}),
    Failure("F12", "kimi-k2-thinking", fields={"max_tokens": 4096}, script=[Reply("51.", reasoning="17 x 3.")], quirks={"reasoning_only": True}),
    Failure("F13", "kimi-k2-0905-preview", [*ASKED, *LOOP], {**WEATHER, **LIMIT}, script=[Reply(tool_calls=[PARIS])]),
    Failure("F14", "kimi-k2-0905-preview", fields={**WEATHER, **LIMIT}, script=[Reply("That is easy. Let me check the registry for Paris.")]),
    *(
        Failure("F15", OPEN, fields={"tools": [TODOS]}, persona="vllm", script=[Reply(tool_calls=[WRITTEN])], quirks={quirk: True})
        for quirk in ("nested_json_text", "trailing_comma", "raw_control_characters", "cut_arguments")
    ),
    Failure("F19", OPEN, fields=WEATHER, persona="vllm", script=[Reply(tool_calls=[PARIS])], quirks={"undeclared_tool": True}),
    Failure("F19", OPEN, fields={**WEATHER, "tool_choice": "none"}, persona="vllm", script=[Reply(tool_calls=[PARIS])], quirks={"ignore_tool_choice": True}),
    Failure("F20", "kimi-k2.6", fields={"stream": True, **LIMIT}, script=[Reply("Yes.", usage=COUNTED)], quirks={"usage_in": ["choice"]}),
    Failure("F21", "moonshotai/Kimi-K2-Thinking", persona="vllm", script=[Reply("Sunny.", reasoning="Hm.")], quirks={"think_in_content": True}),
    Failure("F25", "kimi-k2-0905-preview", [user("Please repeat: " + "go " * 1_300)]),
]  # fmt: skip
EVERY = [*REFUSED, *ANSWERED]


def ids(failure: Failure) -> str:
    return f"{failure.mode} {failure.words or ' '.join(failure.quirks)}".strip()


def sent(failure: Failure, body: dict[str, Any], **changes: Any) -> httpx.Response:
    settings = {"script": failure.script, "quirks": failure.quirks, "api_key": failure.api_key, **changes}
    with KimiSimulator(failure.persona, **settings) as simulator:
        headers = {"authorization": "Bearer sk-mine"}
        return httpx.post(f"{simulator.base_url}/chat/completions", json=body, headers=headers)


@cache
def refusal(failure: Failure) -> httpx.Response:
    """What the host answers; asked once, whoever looks."""
    return sent(failure, failure.body)


def test_every_mode_is_here():
    assert {failure.mode for failure in EVERY} == {f"F{number}" for number in range(1, 26)}


@pytest.mark.parametrize("failure", EVERY, ids=ids)
def test_the_right_cause_and_a_request_that_is_taken(failure):
    answer = refusal(failure)
    assert (answer.status_code >= 400) is bool(failure.words)
    assert failure.words in answer.text
    request = json.dumps(failure.body)
    found = explain(read_case([request, answer.text]), host=failure.persona)
    assert found.causes[0].id == failure.mode, found.causes
    repaired = sent(failure, found.repaired, script=None, quirks={}, api_key=None)
    assert repaired.status_code == 200, repaired.text
    message = json.loads(repaired.text)["choices"][0] if not found.repaired.get("stream") else {}
    assert message.get("finish_reason") != "length"


@pytest.mark.parametrize("failure", [one for one in REFUSED if one.mode not in ("F22", "F23")], ids=ids)
def test_the_request_alone_tells_as_much(failure):
    found = explain(read_case([json.dumps(failure.body)]), host=failure.persona)
    assert found.causes[0].id == failure.mode, found.causes


@pytest.mark.parametrize("failure", REFUSED, ids=ids)
@pytest.mark.parametrize("form", ["body", "sdk", "words", "traceback"])
def test_the_error_alone_tells_as_much_however_it_was_pasted(failure, form):
    answer = refusal(failure)
    status, error = answer.status_code, answer.json()
    pasted = {
        "body": answer.text,
        "sdk": f"Error code: {status} - {error}",
        "words": f"{status} {error['error']['type']}: {error['error']['message']}",
        "traceback": "Traceback (most recent call last):\n  File \"a.py\", line 401, in tool_choice\n    run()\n"
        f"openai.BadRequestError: Error code: {status} - {error}",
    }[form]  # fmt: skip
    found = explain(read_case([pasted]), model=failure.model, host=failure.persona)
    assert found.causes[0].id == failure.mode, found
    assert found.repaired is None


def test_a_sound_request_has_no_cause():
    body = {"model": "kimi-k2.6", "messages": ASKED, "max_completion_tokens": 20_000}
    assert explain(read_case([json.dumps(body)])).causes == ()


def test_an_error_that_is_no_known_mode_still_has_advice():
    found = explain(read_case(['{"error": {"type": "content_filter", "message": "considered high risk"}}']))
    assert (found.causes[0].id, found.causes[0].title) == (
        "ContentFiltered",
        "The host's content filter stopped the request",
    )


def test_the_host_is_told_by_the_models_name():
    body = {"model": OPEN, "messages": [*ASKED, called(("call_abc", *PARIS)), result("call_abc")], **WEATHER}
    found = explain(read_case([json.dumps(body)]))
    assert (found.host, found.causes[0].id) == ("vllm", "F5")


def test_in_the_terminal(tmp_path):
    failure = REFUSED[0]
    request, error = tmp_path / "request.json", tmp_path / "error.txt"
    request.write_text(json.dumps({**failure.body, "extra_body": {"thinking": {"type": "enabled"}}}))
    error.write_text(sent(failure, failure.body).text)
    printed = said(run("explain", error, request))
    assert "Cause: Reasoning was lost on its way through the app (F1)" in printed
    assert "reasoning-replay: an assistant tool call without its reasoning: a single space" in printed
    only = json.loads(said(run("explain", request, "--repaired")))
    assert sent(failure, only, script=None).status_code == 200
    asjson = json.loads(said(run("explain", request, error, "--json")))
    assert asjson["causes"][0]["id"] == "F1"


def test_a_stream_and_one_object_with_everything(tmp_path):
    failure = next(one for one in ANSWERED if one.mode == "F8")
    stream = sent(failure, failure.body).text
    assert stream.startswith("data: ")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(failure.body))
    assert "lost its tool calls (F8)" in said(run("explain", request, "-", "--host", "vllm", stdin=stream))
    together = {"request": REFUSED[0].body, "error": {"message": "invalid top_p: only 0.95 is allowed"}, "status": 400}
    assert "(F2)" in said(run("explain", "-", stdin=json.dumps(together))).partition("Also")[0]


def test_nothing_recognised_is_status_1():
    assert "Nothing here is known" in said(run("explain", "-", stdin='{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20000}'), status=1)  # fmt: skip


def test_no_key_and_no_prompt_in_what_is_said_of_an_error():
    error = '401 {"error": {"type": "invalid_authentication_error", "message": "Invalid key sk-abcdefghijkl0123"}}'
    assert "abcdefghijkl" not in said(run("explain", "-", stdin=error))


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["-"], " ", "nothing to explain"),
        (["nowhere.json"], "", "cannot be read"),
        (["-", "--host", "vlm"], "x", "Did you mean 'vllm'"),
        (["-", "--repaired"], "400 invalid temperature", "no request body was given"),
    ],
)
def test_what_the_user_did_wrong(arguments, stdin, words):
    assert words in failed(run("explain", *arguments, stdin=stdin))


def test_the_example_of_the_readme():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    error, cause = re.search(r'\$ echo "(.*)" \| refrase-kimi explain -\n(.*)\n', readme).groups()
    assert f"\n{cause}\n" in said(run("explain", "-", stdin=error))
