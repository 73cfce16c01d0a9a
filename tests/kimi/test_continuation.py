"""Wherever a reply is cut, and whatever cuts it: the deltas are those of the reply that came in one piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refrase_integrations.errors import StreamInterrupted
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call, Prepared
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.tokens import counter
from refrase_integrations.kimi.turn import arun, run
from refrase_integrations.kimi.wire import Chunk

TEXTS = st.lists(
    st.sampled_from(
        [
            "word ",
            "  ",
            "\n",
            "```\n",
            "`",
            "<~|im_end|>",
            "<~|tool_calls_section_begin|>",
            "<",
            "<|",
            "雾",
            "🌫️",
            "{",
            "}",
        ]
    ),
    min_size=1,
    max_size=12,
).map("".join)
DIALECT = compile_dialect(find_model("kimi-k2.6"), find_host("moonshot"), True, "kimi-k2.6")
MESSAGES: Any = [{"role": "user", "content": "What is <|im_end|>?"}]


def call(**fields: Any) -> Call:
    body: Any = {"model": "kimi-k2.6", "messages": MESSAGES, "stream": True}
    return Call(body=body, dialect=DIALECT, practices=Practices(), count=counter(None), **fields)


class Host:
    """A host with partial mode that tells one text in pieces, and ends a response as it is told to."""

    def __init__(self, text: str, reasoning: str, ends: list[tuple[str, int]], size: int) -> None:
        self._text, self._reasoning, self._ends, self._size = text, reasoning, list(ends), size
        self.bodies: list[Any] = []
        self.broke_behind_all = False
        """A stream broke when the whole text had been told."""

    def send(self, prepared: Prepared) -> Iterator[Chunk]:
        self.bodies.append(prepared.body)
        last: Any = prepared.body["messages"][-1]
        start = len(last["content"]) if last.get("partial") else 0
        if start:
            assert last["content"] == self._text[:start]
            assert last["reasoning_content"] == self._reasoning
        yield self._delta(reasoning_content=self._reasoning)
        how, most = self._ends.pop(0) if self._ends else ("stop", len(self._text))
        end = min(start + most, len(self._text))
        for place in range(start, end, self._size):
            yield self._delta(content=self._text[place : min(place + self._size, end)])
        if how == "break":
            self.broke_behind_all = self.broke_behind_all or end == len(self._text)
            raise StreamInterrupted("the stream broke")
        finish = "length" if end < len(self._text) else "stop"
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}

    @staticmethod
    def _delta(**delta: str) -> Chunk:
        return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@given(
    text=TEXTS.filter(str.strip),
    ends=st.lists(st.tuples(st.sampled_from(["break", "length"]), st.integers(1, 20)), max_size=5),
    size=st.integers(1, 9),
)
def test_any_cut_gives_the_same_reply(text: str, ends: list[tuple[str, int]], size: int) -> None:
    (wanted,) = fold(run(call(), Host(text, "Hm.", [], size).send))
    host = Host(text, "Hm.", ends, size)
    try:
        (joined,) = fold(run(call(resumes=9, continues=9), host.send))
    except StreamInterrupted:
        assert host.broke_behind_all, "only then nothing tells that the text was whole"
        return
    assert joined["content"] == wanted["content"]
    assert joined["reasoning"] == "Hm."
    assert joined["finish_reason"] == "stop"
    assert MESSAGES == [{"role": "user", "content": "What is <|im_end|>?"}]
    for body in host.bodies:
        assert [message["role"] for message in body["messages"]][:2] == ["system", "user"]
        assert len(body["messages"]) <= 3


async def test_who_leaves_an_async_reply_closes_the_response_at_once() -> None:
    closed: list[bool] = []

    async def send(prepared: Prepared) -> AsyncIterator[Chunk]:
        try:
            while True:
                yield {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
        finally:
            closed.append(True)

    reply: Any = arun(call(), send)
    await anext(reply)
    await reply.aclose()
    assert closed == [True]
