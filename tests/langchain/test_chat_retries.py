"""One layer retries: this package's, or LangChain's where this package's is off."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core import exceptions
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables.retry import RunnableRetry

from refrase_integrations import errors
from refrase_integrations.client import retries
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_wait", lambda state: 0.0)


def chat(simulator: KimiSimulator, **fields: Any) -> ChatKimi:
    return ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-x", **fields)


@pytest.mark.parametrize(("max_retries", "sent"), [(2, 3), (0, 4)])
def test_a_retry_middleware_does_not_multiply(max_retries: int, sent: int) -> None:
    with KimiSimulator(script=lambda _: Reply(status=503)) as simulator:
        middleware = ModelRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False, on_failure="error")
        agent = create_agent(chat(simulator, max_retries=max_retries), middleware=[middleware])
        with pytest.raises(errors.HostOverloaded) as caught:
            agent.invoke({"messages": [("user", "Hi.")]})
        assert len(simulator.requests) == sent
    assert caught.value.retryable


KINDS: list[dict[str, Any]] = [
    {},
    {"retry_if_exception_type": (errors.HostOverloaded,)},
    {"retry_if_exception_type": (errors.RefraseError, ValueError)},
    {"retry_if_exception_type": (exceptions.ModelAPIError,)},
]


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize("kinds", KINDS, ids=range(len(KINDS)))
@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_with_retry_does_not_multiply(mode: str, kinds: dict[str, Any], max_retries: int) -> None:
    with KimiSimulator(script=lambda _: Reply(status=503)) as simulator:
        model: Any = chat(simulator, max_retries=max_retries).with_retry(stop_after_attempt=4, **kinds)
        with pytest.raises(errors.HostOverloaded):
            model.invoke("Hi.") if mode == "invoke" else list(model.stream("Hi."))
        assert len(simulator.requests) == 4


def test_with_retry_repeats_other_kinds_too() -> None:
    with KimiSimulator(script=[Reply(status=503), "No JSON.", "No JSON.", "No JSON.", "Fine."]) as simulator:
        model = chat(simulator).with_retry(
            retry_if_exception_type=(errors.HostError, ZeroDivisionError),
            stop_after_attempt=2,
            wait_exponential_jitter=False,
        )
        assert model.invoke("Hi.").text == "No JSON."
        assert isinstance(model, RunnableRetry)
        assert len(simulator.requests) == 2


def test_with_retry_leaves_what_will_not_pass_alone() -> None:
    with KimiSimulator(script=lambda _: Reply(status=401)) as simulator:
        with pytest.raises(errors.WrongKey):
            chat(simulator).with_retry(stop_after_attempt=4).invoke("Hi.")
        assert len(simulator.requests) == 1


@pytest.mark.parametrize(("max_retries", "sent"), [(2, 6), (0, 2)])
def test_around_a_chain_with_retry_multiplies_unless_ours_is_off(max_retries: int, sent: int) -> None:
    with KimiSimulator(script=lambda _: Reply(status=503)) as simulator:
        chain = (chat(simulator, max_retries=max_retries) | StrOutputParser()).with_retry(
            stop_after_attempt=2, wait_exponential_jitter=False
        )
        with pytest.raises(errors.HostOverloaded):
            chain.invoke("Hi.")
        assert len(simulator.requests) == sent


@pytest.mark.parametrize("max_retries", [0, 2])
def test_what_will_not_pass_is_sent_once(max_retries: int) -> None:
    with KimiSimulator(script=lambda _: Reply(status=401)) as simulator:
        middleware = ModelRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False, on_failure="error")
        agent = create_agent(chat(simulator, max_retries=max_retries), middleware=[middleware])
        with pytest.raises(errors.WrongKey):
            agent.invoke({"messages": [("user", "Hi.")]})
        assert len(simulator.requests) == 1
