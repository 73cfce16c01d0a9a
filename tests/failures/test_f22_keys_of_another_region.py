"""F22: 401 with a `.cn` key on `.ai` or the other way round; 403 `access_terminated_error` for coding-plan keys.

OpenKB#196, cline#10307. A generic client hands the host's bare words on.
"""

from __future__ import annotations

import openai
import pytest

from refrase_integrations.errors import PlanRefused, WrongKey
from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.surfaces import MODES, ask, build, chat_openai, everywhere, failure, langchain_messages, user

MODEL = "kimi-k2.6"
ASKED = [user("Hello.")]
TERMINATED = Reply(
    status=403,
    error_type="access_terminated_error",
    message="Kimi For Coding is currently only available for Coding Agents",
)


@pytest.mark.parametrize("mode", MODES)
async def test_a_generic_client_says_nothing_of_regions(mode: str) -> None:
    with KimiSimulator(api_key="sk-other") as simulator:
        with pytest.raises(openai.AuthenticationError) as caught:
            await conversations.ask(mode, chat_openai(simulator, MODEL), langchain_messages(ASKED))
    assert "moonshot" not in str(caught.value).lower()


@everywhere
@pytest.mark.parametrize(("host", "other"), [("moonshot", "moonshot-cn"), ("moonshot-cn", "moonshot")])
async def test_the_error_names_the_region_and_the_variable(surface: str, mode: str, host: str, other: str) -> None:
    with KimiSimulator(host, api_key="sk-other") as simulator:
        with pytest.raises(WrongKey) as caught:
            await ask(surface, mode, build(surface, simulator, model=MODEL), ASKED)
        assert len(simulator.requests) == 1, "a wrong key is not tried again"
    text = str(caught.value)
    assert f"host {host}" in text
    assert f"host='{other}'" in text
    assert "MOONSHOT_API_KEY" in text
    assert "sk-test" not in text


@everywhere
async def test_a_key_of_the_coding_plan(surface: str, mode: str) -> None:
    error, bodies = await failure(surface, mode, ASKED, PlanRefused, script=[TERMINATED], model=MODEL)
    assert len(bodies) == 1
    assert "host='kimi-code'" in str(error)
    assert "host='moonshot'" in str(error)


@everywhere
async def test_no_other_client_is_pretended(surface: str, mode: str) -> None:
    """A User-Agent that the plan lists would get through, and would be a lie."""
    with KimiSimulator("moonshot") as simulator:
        await ask(surface, mode, build(surface, simulator, model=MODEL, host="kimi-code"), ASKED)
        agent = simulator.requests[0].headers["user-agent"].lower()
    assert "openai" in agent
    assert not any(name in agent for name in ("kimi", "claude", "cline", "roo", "kilo", "opencode"))
