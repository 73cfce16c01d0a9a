"""Questions about this package's own documents, answered by Kimi in LlamaIndex: a query engine, a chat engine, and an
agent that has the query engine as a tool.

Documents and embedding are local: nothing is downloaded. The words of the answers are the simulator's, which makes them
up; with MOONSHOT_API_KEY set they are Kimi's. Which passages were found is real either way.

    pip install "refrase-integrations[llamaindex,simulator]"
    python examples/05_llamaindex_rag.py
"""

import asyncio
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import MarkdownNodeParser
from llama_index.core.tools import QueryEngineTool

from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
QUESTIONS = ("How do I add a model to the catalogue?", "Which floors of the package may import which?")


class HashedWords(BaseEmbedding):
    """An embedding without a model: words and pairs of words, hashed into a vector. Good enough for a few documents."""

    dimensions: int = 1024

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for term in _terms(text):
            vector[zlib.crc32(term.encode()) % self.dimensions] += 1.0
        damped = [math.log1p(count) for count in vector]
        length = math.sqrt(sum(value * value for value in damped)) or 1.0
        return [value / length for value in damped]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


_COMMON = re.compile(
    r"\b(?:an?|and|are|as|at|be|by|do|for|from|how|i|in|is|its?|may|of|on|or|that|the|this|to|what|which|with)\b"
)


def _terms(text: str) -> Iterator[str]:
    words = [word.rstrip("s") for word in re.findall(r"\w+", _COMMON.sub(" ", text.lower()))]
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


def build_index() -> VectorStoreIndex:
    """Return an index of this package's documents, split at their headings."""
    root = Path(__file__).parents[1]
    documents = [Document(text=(root / name).read_text("utf-8"), metadata={"file": name}) for name in DOCUMENTS]
    return VectorStoreIndex.from_documents(documents, transformations=[MarkdownNodeParser()], embed_model=HashedWords())


async def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator:
        where = {"base_url": simulator.base_url, "api_key": "simulator"} if simulator else {}
        llm = Kimi(model="kimi-k2.6", host="moonshot", **where)
        index = build_index()
        engine = index.as_query_engine(llm=llm, similarity_top_k=3)
        for question in QUESTIONS:
            answer = await engine.aquery(question)
            found = [f"{node.metadata['file']} ({node.text.splitlines()[0]})" for node in answer.source_nodes]
            print(f"{question}\n  found: {', '.join(found)}\n  {str(answer)[:300]}")

        chat = index.as_chat_engine("condense_plus_context", llm=llm, memory=ChatMemoryBuffer.from_defaults())
        for question in ("What is a persona?", "And where does it stand?"):
            print(f"{question}\n  {str(await chat.achat(question))[:300]}")

        manual = QueryEngineTool.from_defaults(
            engine, name="read_manual", description="Looks up the manual of refrase-integrations; input: a question."
        )
        agent = FunctionAgent(llm=llm, tools=[manual])
        result = await agent.run("Read the manual: how do I add a practice?")
        print(f"The agent: {str(result)[:300]}")
        for change in result.raw["refrase"]["changes"]:
            print(f"  {change['practice']}: {change['detail']} [{change['source']}]")


if __name__ == "__main__":
    asyncio.run(main())
