"""Structured prediction: nested, optional, list and enum fields, thinking on and off, on both kinds of hosts."""

from __future__ import annotations

import enum
import json
from collections import Counter
from typing import Any, Literal

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field

from refrase_integrations.errors import ConfigurationError, StructuredOutputError
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import Collected, bodies, kimi


class Kind(enum.Enum):
    BLUE = "blue"
    RED = "red"


class Track(BaseModel):
    """A song."""

    title: str
    seconds: int = Field(ge=0)


class Album(BaseModel):
    """A record."""

    name: str
    kind: Kind
    mood: Literal["sad", "glad"]
    tracks: list[Track]
    label: str | None = None
    best: Track | None = None


PROMPT = PromptTemplate("Describe the album {name}.")
RIVER, CAREY = Track(title="River", seconds=240), Track(title="Carey", seconds=181)
FOUND = Album(name="Blue", kind=Kind.BLUE, mood="sad", tracks=[RIVER, CAREY], best=RIVER)
ANSWER = FOUND.model_dump_json(exclude={"label"})
MODELS = {
    "moonshot thinking": {"persona": "moonshot", "model": "kimi-k2-thinking"},
    "moonshot on": {"persona": "moonshot", "model": "kimi-k2.6", "thinking": True},
    "moonshot off": {"persona": "moonshot", "model": "kimi-k2.6", "thinking": False},
    "moonshot instruct": {"persona": "moonshot", "model": "kimi-k2-0905-preview"},
    "vllm thinking": {"persona": "vllm", "model": "moonshotai/Kimi-K2-Thinking"},
    "vllm on": {"persona": "vllm", "model": "moonshotai/Kimi-K2.6", "thinking": True},
    "vllm off": {"persona": "vllm", "model": "moonshotai/Kimi-K2.6", "thinking": False},
    "vllm instruct": {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"},
    "no json_schema": {"persona": "groq", "model": "kimi-k2-0905-preview"},
}
WAYS = ("structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict")


async def predict(way: str, llm: Any, prompt: Any, output_cls: type[BaseModel] = Album, **kwargs: Any) -> list[Any]:
    """Predict in one of the four ways, and return all objects: one, or those of the stream."""
    made = getattr(llm, way)(output_cls, prompt, **kwargs)
    if way == "structured_predict":
        return [made]
    if way == "astructured_predict":
        return [await made]
    if way == "stream_structured_predict":
        return list(made)
    return [one async for one in await made]


def answering(body: dict[str, Any]) -> Reply:
    """Answer in the form that the request asks for: as text, or through the one tool."""
    thinks = "nstruct" not in body["model"] and "0905" not in body["model"] and not off(body)
    reasoning = "An album." if thinks else None
    if body.get("response_format", {}).get("type") == "json_schema" or not body.get("tools"):
        return Reply(ANSWER, reasoning=reasoning)
    return Reply(tool_calls=[(body["tools"][0]["function"]["name"], ANSWER)], reasoning=reasoning)


def off(body: dict[str, Any]) -> bool:
    return '"disabled"' in json.dumps(body) or '"thinking": false' in json.dumps(body)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
async def test_the_family(way: str, name: str) -> None:
    settings = dict(MODELS[name])
    with KimiSimulator(settings.pop("persona"), script=answering) as simulator:
        found = await predict(way, kimi(simulator, **settings), PROMPT, name="Blue")
        assert simulator.refusals == []
        [body] = bodies(simulator)
    assert found[-1] == FOUND
    assert type(found[-1]) is Album
    assert body["messages"][-1]["content"] == "Describe the album Blue."
    assert off(body) is name.endswith("off"), "thinking stays as it is"
    if "moonshot" in name or "vllm" in name:
        assert body["response_format"]["type"] == "json_schema"
    assert not any(later == earlier for earlier, later in zip(found, found[1:], strict=False))


@pytest.mark.parametrize("name", MODELS)
async def test_the_simulator_fills_any_schema(name: str) -> None:
    """Without a script: what is asked for is what a host that keeps to the schema answers."""
    settings = dict(MODELS[name])
    with KimiSimulator(settings.pop("persona")) as simulator:
        llm = kimi(simulator, **settings)
        assert isinstance(llm.structured_predict(Album, PROMPT, name="Blue"), Album)
        assert isinstance((await predict("astream_structured_predict", llm, PROMPT, name="Blue"))[-1], Album)
        assert simulator.refusals == []


@pytest.mark.parametrize("way", ["stream_structured_predict", "astream_structured_predict"])
async def test_the_object_grows(way: str) -> None:
    with KimiSimulator("moonshot", script=[Reply(ANSWER, reasoning="Hm.")], chunk_size=2) as simulator:
        found = await predict(way, kimi(simulator, model="kimi-k2-thinking"), PROMPT, name="Blue")
    assert len(found) > 10
    assert found[0].model_fields_set <= set(Album.model_fields)
    named = [one.name for one in found if one.name]
    assert named[0] != "Blue"
    assert named[-1] == "Blue"
    lengths = [len(one.tracks or ()) for one in found]
    assert lengths == sorted(lengths)
    assert found[-1] == FOUND


def test_reading_a_growing_answer_costs_a_multiple_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    from refrase_integrations.llamaindex import structured

    read: list[int] = []
    whole = structured.from_json

    def counted(text: str, **kwargs: Any) -> Any:
        read.append(len(text))
        return whole(text, **kwargs)

    monkeypatch.setattr(structured, "from_json", counted)
    costs = []
    for count in (100, 400):
        album = FOUND.model_copy(update={"tracks": FOUND.tracks * count}).model_dump_json()
        read.clear()
        with KimiSimulator("moonshot", script=[album], chunk_size=16) as simulator:
            *_, last = kimi(simulator, model="kimi-k2.6", thinking=False).stream_structured_predict(
                Album, PROMPT, name="x"
            )
        assert len(last.tracks or ()) == 2 * count
        costs.append(sum(read) / len(album))
    assert max(costs) < 64


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_does_not_fit_is_asked_for_again_where_it_can_be(way: str) -> None:
    wrong = Reply('{"name": "Blue"}', reasoning="Hm.")
    with KimiSimulator("moonshot", script=[wrong, Reply(ANSWER, reasoning="Oh.")]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        if "stream" in way:  # what was handed out cannot be taken back
            with pytest.raises(StructuredOutputError, match="kind: Field required"):
                await predict(way, llm, PROMPT, name="Blue")
        else:
            assert await predict(way, llm, PROMPT, name="Blue") == [FOUND]
            assert len(bodies(simulator)) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_what_never_fits_is_a_clear_error(way: str) -> None:
    wrong = '{"name": 5, "secret": "answer text"}'
    with KimiSimulator("moonshot", script=[wrong] * 3) as simulator:
        with pytest.raises(StructuredOutputError, match="does not fit Album") as caught:
            await predict(way, kimi(simulator, model="kimi-k2.6", thinking=False), PROMPT, name="my secret prompt")
    assert isinstance(caught.value, ValueError), "LlamaIndex's own programs raise ValueError"
    assert "secret" not in str(caught.value)


async def test_a_fenced_answer_in_a_stream_is_read() -> None:
    with KimiSimulator("moonshot", script=[f"```json\n{ANSWER}\n```"]) as simulator:
        llm = kimi(simulator, model="kimi-k2.6", thinking=False)
        assert (await predict("stream_structured_predict", llm, PROMPT, name="Blue"))[-1] == FOUND


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete"])
@pytest.mark.parametrize("name", MODELS)
async def test_a_structured_llm(name: str, way: str) -> None:
    from tests.llamaindex.exchanges import last

    asked: Any = "Blue?" if "complete" in way else [ChatMessage(role="user", content="Blue? {not a variable}")]
    settings = dict(MODELS[name])
    with KimiSimulator(settings.pop("persona"), script=answering) as simulator:
        structured = kimi(simulator, **settings).as_structured_llm(Album)
        reply = await last(way, structured, asked, max_tokens=20_000)
        assert simulator.refusals == []
        [body] = bodies(simulator)
    assert reply.raw == FOUND
    assert type(reply.raw) is Album
    assert off(body) is name.endswith("off"), "thinking stays as it is"
    assert 20_000 in (body.get("max_completion_tokens"), body.get("max_tokens"))
    assert body["messages"][-1]["content"].startswith("Blue?")


@pytest.mark.parametrize("way", WAYS)
async def test_the_system_prompt_is_kept_in_every_way(way: str) -> None:
    """LlamaIndex's own async program drops it."""
    with KimiSimulator("moonshot", script=answering) as simulator:
        llm = kimi(
            simulator, model="kimi-k2-thinking", system_prompt="You know music.", practices={"fresh_data": "off"}
        )
        await predict(way, llm, PROMPT, name="Blue")
        assert [message["content"] for message in bodies(simulator)[0]["messages"]] == [
            "You know music.",
            "Describe the album Blue.",
        ]


@pytest.mark.parametrize("way", WAYS)
async def test_call_arguments_go_through_and_stay_as_they_were(way: str) -> None:
    given = {"max_tokens": 20_000, "tool_choice": "auto", "tool_required": True, "allow_parallel_tool_calls": True}
    before = dict(given)
    prompt = ChatPromptTemplate([ChatMessage(role="system", content="S."), ChatMessage(role="user", content="{name}?")])
    with KimiSimulator("moonshot", script=answering) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking", practices={"fresh_data": "off"})
        await predict(way, llm, prompt, llm_kwargs=given, name="Blue")
        [body] = bodies(simulator)
    assert given == before
    assert body["max_completion_tokens"] == 20_000
    assert [message["content"] for message in body["messages"]] == ["S.", "Blue?"]


@pytest.mark.parametrize("way", WAYS)
async def test_events_come_once(way: str, collected: Collected) -> None:
    with KimiSimulator("moonshot", script=answering) as simulator:
        await predict(way, kimi(simulator, model="kimi-k2-thinking", api_key="sk-canary"), PROMPT, name="Blue")
    names = Counter(type(event).__name__ for event in collected.events)
    for name in (
        "LLMStructuredPredictStartEvent",
        "LLMStructuredPredictEndEvent",
        "LLMChatStartEvent",
        "LLMChatEndEvent",
    ):
        assert names[name] == 1
    assert (names["LLMStructuredPredictInProgressEvent"] > 0) is ("stream" in way)
    assert "canary" not in "".join(map(repr, collected.events))


@pytest.mark.parametrize("way", WAYS)
async def test_another_program_mode_takes_llamaindex_s_own_way(way: str) -> None:
    def call(body: dict[str, Any]) -> Reply:
        return Reply(tool_calls=[("Album", ANSWER)], reasoning="Hm.")

    with KimiSimulator("moonshot", script=call) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking", pydantic_program_mode=PydanticProgramMode.FUNCTION)
        assert (await predict(way, llm, PROMPT, name="Blue"))[-1] == FOUND
        assert simulator.refusals == []
        [body] = bodies(simulator)
    assert "response_format" not in body
    assert body["tools"][0]["function"]["name"] == "Album"


def test_a_function_calling_program_survives_a_talkative_model() -> None:
    talk, call = (
        Reply("Sure, I can do that.", reasoning="Hm."),
        Reply(reasoning="Hm.", tool_calls=[("Album", ANSWER)] * 2),
    )
    with KimiSimulator("moonshot", script=[talk, call]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        program = FunctionCallingProgram.from_defaults(Album, llm=llm, prompt=PROMPT)
        assert program(name="Blue") == FOUND
        assert simulator.refusals == []


def test_what_is_no_pydantic_class() -> None:
    with KimiSimulator("moonshot") as simulator, pytest.raises(ConfigurationError, match="pydantic class"):
        kimi(simulator).structured_predict(dict, PROMPT, name="x")  # type: ignore[type-var]
