"""The doctor's engine: how many requests, how many at once, what it does where a host fails, and chance."""

import asyncio
import sys
from datetime import date

import openai
import pytest

from refrase_integrations.client.connection import connect
from refrase_integrations.doctor import examine, plan
from refrase_integrations.doctor.profile import catalogue_file
from refrase_integrations.errors import ConnectionFailed, ModelNotFound, WrongKey
from refrase_integrations.simulator import KimiSimulator, Reply

MODEL = "kimi-k2.6"
HTTP = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
"""The HTTP library under the installed SDK: httpx or HTTP."""


def run(simulator, model=MODEL, **options):
    return asyncio.run(examine(connect("generic", simulator.base_url, "sk-test"), model, **options))


def test_the_plan_says_how_many_requests_and_what_they_cost():
    with KimiSimulator("generic") as simulator:
        seen = run(simulator, tries=2)
        planned = plan(connect("moonshot", simulator.base_url, "sk-test"), MODEL, tries=2)
        sent = len(simulator.requests)
    assert seen.requests == sent == planned.requests + 1, "and the first one, which looks whether anybody is there"
    spent = [request.body for request in simulator.requests if request.body]
    assert len(spent) == sent - 1
    assert planned.dollars == pytest.approx((planned.tokens_in * 0.95 + planned.tokens_out * 4) / 1e6)
    assert plan(connect("generic", simulator.base_url, "k"), MODEL).dollars is None


def test_progress_counts_every_request():
    with KimiSimulator("generic") as simulator:
        steps = []
        seen = run(simulator, tries=1, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, seen.requests + 1))


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_requests_at_once_than_allowed(at_once):
    counting = CountingTransport()

    async def examined(base_url):
        async with HTTP.AsyncClient(transport=counting) as http:
            connection = connect("generic", base_url, "sk-test", http_async_client=http)
            return await examine(connection, MODEL, tries=1, at_once=at_once)

    with KimiSimulator("generic") as simulator:
        asyncio.run(examined(simulator.base_url))
    assert counting.most == at_once


class CountingTransport(HTTP.AsyncHTTPTransport):
    """Counts how many requests are on their way."""

    def __init__(self):
        super().__init__()
        self.running = self.most = 0

    async def handle_async_request(self, request):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().handle_async_request(request)
        finally:
            self.running -= 1


def test_a_fault_that_comes_now_and_then_is_counted():
    with KimiSimulator("generic", quirks={"cut_arguments": 0.5}) as simulator:
        found = run(simulator, tries=6)["arguments-cut"]
    hits, of = (int(word) for word in found.seen.removeprefix("cut short: ").removesuffix(" calls").split(" of "))
    assert 0 < hits < of == 30


def test_what_fails_otherwise_is_unknown_and_no_refusal():
    def broken(body):
        return Reply(status=500, message="no") if body.get("tools") else None

    with KimiSimulator("generic", script=broken) as simulator:
        seen = run(simulator, tries=1)
    assert {seen[id].verdict for id in ("tool-schemas", "tool-ids", "unanswered-calls", "lost-calls")} == {"unknown"}
    assert seen["blank-turns"].verdict == "right"


def test_a_host_that_is_not_there_and_a_key_that_is_wrong():
    with KimiSimulator("generic", api_key="sk-other") as simulator, pytest.raises(WrongKey):
        run(simulator)
    with KimiSimulator("moonshot") as simulator, pytest.raises(ModelNotFound):
        run(simulator, "kimi-k9")
    with pytest.raises(ConnectionFailed):
        run(simulator)


def test_problems_come_worst_first():
    with KimiSimulator("moonshot", quirks={"think_in_content": True}) as simulator:
        verdicts = [one.verdict for one in run(simulator, tries=1).problems]
    assert verdicts == sorted(verdicts, key=["broken", "lossy", "strict"].index)
    assert verdicts[0] == "broken"


def test_a_reply_that_ends_with_the_window_was_not_cut_by_a_limit():
    def ends(spent):
        usage = {"prompt_tokens": 1_334, "completion_tokens": spent, "total_tokens": 1_334 + spent}
        return lambda body: Reply("go " * 9, finish_reason="length", usage=usage) if "repeat" in str(body) else None

    for spent, found in ((714, 0), (512, 512)):
        with KimiSimulator("generic", script=ends(spent)) as simulator:
            assert run(simulator, tries=1)["output-default"].value == found


def test_a_choice_that_is_taken_and_not_kept_to_is_no_part_of_the_profile():
    with KimiSimulator("generic", script=lambda body: Reply("Hello.") if body.get("tools") else None) as simulator:
        seen = run(simulator, tries=1)
    assert (seen["tool-choice"].verdict, seen["tool-choice"].practice) == ("lossy", "tool-choice")
    assert "choices" not in catalogue_file(seen, "ours", date(2026, 11, 24))


def test_a_model_that_skips_its_reasoning_is_not_switched_off():
    with KimiSimulator("generic", script=lambda body: Reply("Hello.") if "think" in body else None) as simulator:
        assert run(simulator, tries=1)["thinking-switch"].value == ["thinking"]


def test_what_the_output_limit_cut_is_no_fault_of_the_arguments():
    def cut(body):
        call = ("get_weather", '{"city": "Par')
        return Reply(tool_calls=[call], finish_reason="length") if body.get("tools") else None

    with KimiSimulator("generic", script=cut) as simulator:
        assert run(simulator, tries=1)["arguments-cut"].value is None
