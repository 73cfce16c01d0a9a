"""Query engines and chat engines on Kimi, over the package's own documents, against the strict simulator."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.selectors import LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import bodies, kimi

TARGETS = {
    "moonshot thinking": ("moonshot", "kimi-k2-thinking"),
    "moonshot off": ("moonshot", "kimi-k2.6"),
    "vllm instruct": ("vllm", "moonshotai/Kimi-K2-Instruct-0905"),
}
MODES = [
    ResponseMode.COMPACT,
    ResponseMode.REFINE,
    ResponseMode.TREE_SUMMARIZE,
    ResponseMode.SIMPLE_SUMMARIZE,
    ResponseMode.ACCUMULATE,
    ResponseMode.COMPACT_ACCUMULATE,
]
QUESTION = "How do I add a model to the catalogue?"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "05_llamaindex_rag.py"
    spec = importlib.util.spec_from_file_location("rag_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def index(example: ModuleType) -> VectorStoreIndex:
    return example.build_index()


def settings(name: str) -> dict[str, Any]:
    return {"model": TARGETS[name][1], **({"thinking": False} if name.endswith("off") else {})}


def answering(name: str) -> Any:
    """Answer with what was asked and how many passages of the manual stand in the prompt."""

    def answer(body: dict[str, Any]) -> Reply:
        prompt = json.dumps(body["messages"])
        said = f"{prompt.count('file: ')} passages" if QUESTION in prompt else "no question"
        return Reply(said, reasoning="Hm." if name.endswith("thinking") else None)

    return answer


async def asked(way: str, engine: Any, question: str) -> str:
    """Query in one of the four ways; the engine streams where it was built so."""
    answer = engine.query(question) if way.startswith("sync") else await engine.aquery(question)
    if isinstance(answer, StreamingResponse):
        return "".join(answer.response_gen)
    if isinstance(answer, AsyncStreamingResponse):
        return "".join([piece async for piece in answer.async_response_gen()])
    return str(answer)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("mode", MODES)
async def test_query_engines(index: VectorStoreIndex, mode: ResponseMode, name: str) -> None:
    with KimiSimulator(TARGETS[name][0], script=answering(name)) as simulator:
        llm = kimi(simulator, **settings(name))
        engine = index.as_query_engine(llm=llm, response_mode=mode, similarity_top_k=3, use_async=True)
        first, second = await asked("sync", engine, QUESTION), await asked("async", engine, QUESTION)
        assert simulator.refusals == []
        seen = bodies(simulator)
    assert first == second
    assert "passages" in first
    one_by_one = mode in (ResponseMode.REFINE, ResponseMode.ACCUMULATE)
    assert len(seen) == 2 * (3 if one_by_one else 1)
    for half in (seen[: len(seen) // 2], seen[len(seen) // 2 :]):  # passages are asked about in any order
        assert any("## Add a model" in json.dumps(body["messages"]) for body in half)
    assert all(("temperature" in body) is name.startswith("vllm") or body["temperature"] == 1.0 for body in seen)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
async def test_streamed_answers(index: VectorStoreIndex, mode: ResponseMode, way: str) -> None:
    with KimiSimulator("moonshot", script=answering("moonshot thinking")) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        engine = index.as_query_engine(llm=llm, response_mode=mode, streaming=True, similarity_top_k=2)
        said = await asked(way, engine, QUESTION)
        assert simulator.refusals == []
    assert said.endswith("passages"), "no reasoning in the answer"


async def test_a_tree_of_summaries_over_everything(example: ModuleType) -> None:
    nodes = list(example.build_index().docstore.docs.values())
    with KimiSimulator("moonshot", script=lambda body: Reply("In short: models.", reasoning="Hm.")) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        engine = SummaryIndex(nodes).as_query_engine(llm=llm, response_mode="tree_summarize", use_async=True)
        assert str(await engine.aquery(QUESTION)) == "In short: models."
        assert simulator.refusals == []


# -- chat engines ----------------------------------------------------------------------------------------

CHATS = [ChatMode.CONTEXT, ChatMode.CONDENSE_QUESTION, ChatMode.CONDENSE_PLUS_CONTEXT, ChatMode.SIMPLE]


async def chatted(way: str, engine: Any, question: str) -> str:
    if way == "sync":
        return str(engine.chat(question))
    if way == "async":
        return str(await engine.achat(question))
    if way == "sync stream":
        return "".join(engine.stream_chat(question).response_gen)
    return "".join([piece async for piece in (await engine.astream_chat(question)).async_response_gen()])


@pytest.mark.parametrize("way", ["sync", "async", "sync stream", "async stream"])
@pytest.mark.parametrize("mode", CHATS)
async def test_chat_engines_over_three_turns(index: VectorStoreIndex, mode: ChatMode, way: str) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        condenses = "follow up" in json.dumps(body["messages"]).lower()
        return Reply(QUESTION if condenses else "So it is.", reasoning="Hm.")

    with KimiSimulator("moonshot", script=answer) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        memory = ChatMemoryBuffer.from_defaults(token_limit=20_000)
        engine = index.as_chat_engine(mode, llm=llm, memory=memory)
        for turn in range(3):
            assert await chatted(way, engine, f"{QUESTION} ({turn})") == "So it is."
        assert simulator.refusals == []
        seen = bodies(simulator)
    condenses = mode in (ChatMode.CONDENSE_QUESTION, ChatMode.CONDENSE_PLUS_CONTEXT)
    assert len(seen) == (5 if condenses else 3)
    assert ("## Add a" in json.dumps(seen[-1]["messages"])) is (mode != ChatMode.SIMPLE)
    kept = await memory.aget_all()
    assert [message.content for message in kept][1::2] == ["So it is."] * 3


def test_documents_in_the_system_message_are_neither_judged_nor_shortened(index: VectorStoreIndex) -> None:
    """Chat engines put them there; concise-prompt looks at what stands around them."""
    repeated = "Never guess. " * 200
    index = VectorStoreIndex(
        [node.model_copy(update={"text": f"{node.text}\n{repeated}"}) for node in index.docstore.docs.values()][:3],  # type: ignore[attr-defined]
        embed_model=index._embed_model,
    )
    with KimiSimulator("moonshot", script=["Yes."] * 2) as simulator:
        llm = kimi(simulator, thinking=False, practices={"concise_prompt": "apply"})
        for mode in (ChatMode.CONTEXT, ChatMode.CONDENSE_PLUS_CONTEXT):
            engine = index.as_chat_engine(mode, llm=llm, memory=ChatMemoryBuffer.from_defaults())
            assert str(engine.chat(QUESTION)) == "Yes."
        systems = [body["messages"][0]["content"] for body in bodies(simulator)]
    assert [system.count(repeated.strip()) for system in systems] == [2, 2]


# -- structured ------------------------------------------------------------------------------------------


class Steps(BaseModel):
    """What to do."""

    files: list[str]
    certain: bool


STEPS = '{"files": ["kimi/catalogue/models"], "certain": true}'


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
async def test_an_answer_of_a_class(index: VectorStoreIndex, mode: ResponseMode, name: str) -> None:
    with KimiSimulator(TARGETS[name][0], script=lambda body: Reply(STEPS)) as simulator:
        llm = kimi(simulator, **settings(name))
        engine = index.as_query_engine(llm=llm, output_cls=Steps, response_mode=mode, similarity_top_k=2)
        for answer in (engine.query(QUESTION), await engine.aquery(QUESTION)):
            assert answer.response == Steps(files=["kimi/catalogue/models"], certain=True)
        assert simulator.refusals == []
        assert all(body["response_format"]["type"] == "json_schema" for body in bodies(simulator))
        assert not any("tool_choice" in body for body in bodies(simulator))


async def test_a_structured_llm_as_the_engines_llm(index: VectorStoreIndex) -> None:
    with KimiSimulator("moonshot", script=[Reply(STEPS, reasoning="Hm.")]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking").as_structured_llm(Steps)
        answer = await index.as_query_engine(llm=llm, similarity_top_k=2).aquery(QUESTION)
        assert simulator.refusals == []
    assert Steps.model_validate_json(str(answer)).certain


async def test_answers_that_are_filtered(index: VectorStoreIndex) -> None:
    """``structured_answer_filtering`` asks through a program whether a passage helps."""

    def answer(body: dict[str, Any]) -> Reply:
        helps = "## Add a model" in json.dumps(body["messages"])
        said = {"answer": "With one file." if helps else "Who knows?", "query_satisfied": helps}
        return Reply(tool_calls=[(body["tools"][0]["function"]["name"], said)], reasoning="Hm.")

    with KimiSimulator("moonshot", script=answer) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode=ResponseMode.REFINE, structured_answer_filtering=True
        )
        engine = RetrieverQueryEngine.from_args(
            index.as_retriever(similarity_top_k=3), llm=llm, response_synthesizer=synthesizer
        )
        for said in (engine.query(QUESTION), await engine.aquery(QUESTION)):
            assert str(said) == "With one file."
        assert simulator.refusals == []
        assert len(bodies(simulator)) == 6


@pytest.mark.parametrize("selector", [PydanticSingleSelector, LLMSingleSelector])
async def test_a_router(index: VectorStoreIndex, selector: Any) -> None:
    """Its selector forces a tool, which a thinking model does not take; another one asks for JSON in the text."""

    def answer(body: dict[str, Any]) -> Reply:
        if body.get("tools"):
            choice = {"index": 1, "reason": "It is about models."}
            return Reply(tool_calls=[(body["tools"][0]["function"]["name"], choice)], reasoning="Hm.")
        if "choices" in json.dumps(body["messages"]).lower() and "file: " not in json.dumps(body["messages"]):
            return Reply('[{"choice": 1, "reason": "It is about models."}]', reasoning="Hm.")
        return Reply("With one file.", reasoning="Hm.")

    with KimiSimulator("moonshot", script=answer) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        tools = [
            QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name=name, description=f"About {name}.")
            for name in ("models", "hosts")
        ]
        router = RouterQueryEngine(selector=selector.from_defaults(llm=llm), query_engine_tools=tools, llm=llm)
        assert str(await router.aquery(QUESTION)) == "With one file."
        assert simulator.refusals == []


async def test_an_agent_with_the_query_engine_as_a_tool(index: VectorStoreIndex) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["role"] == "tool":
            return Reply(f"The manual says: {body['messages'][-1]['content']}", reasoning="There.")
        if body.get("tools"):
            return Reply(tool_calls=[("manual", {"input": QUESTION})], reasoning="I look it up.")
        assert "## Add a model" in json.dumps(body["messages"])
        return Reply("With one file.", reasoning="Hm.")

    with KimiSimulator("moonshot", script=answer) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        engine = index.as_query_engine(llm=llm, similarity_top_k=2)
        tool = QueryEngineTool.from_defaults(engine, name="manual", description="The manual; input: a question.")
        assert str(await FunctionAgent(llm=llm, tools=[tool]).run(QUESTION)) == "The manual says: With one file."
        assert simulator.refusals == []


def test_the_embedding_finds_the_passage(index: VectorStoreIndex) -> None:
    for question, heading in ((QUESTION, "## Add a model"), ("How do I add a practice?", "## Add a practice")):
        [best] = index.as_retriever(similarity_top_k=1).retrieve(question)
        assert best.text.startswith(heading)
