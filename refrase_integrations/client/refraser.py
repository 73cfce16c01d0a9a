"""The core of `Refraser`: asks a model to rewrite prompts, each once, whoever asks and however many at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any
from weakref import WeakValueDictionary

from refrase_integrations.kimi.inputs import instance, text, whole
from refrase_integrations.kimi.memo import Memo, digest
from refrase_integrations.kimi.prompt.rewrite import Refrased, rewriting
from refrase_integrations.kimi.prompt.thresholds import DEFAULTS, PromptThresholds
from refrase_integrations.kimi.tokens import TokenCounter, estimate
from refrase_integrations.kimi.wire import Message

Ask = Callable[[list[Message]], str]
AsyncAsk = Callable[[list[Message]], Awaitable[str]]


class PromptRefraser:
    """Rewrites prompts for Kimi K2 with a model, and proves that nothing was lost. An adapter says how to ask it.

    The model gets the prompt, what a linter found in it and what Kimi K2's documentation advises. Its answer counts
    only if every placeholder, number, name, address, tool, piece of code, quotation and prohibition survived and it is
    not longer; else it is asked once more, with what was lost named, and then the prompt is compacted instead. A
    prompt is rewritten once and remembered by its content. What the model raises goes through, and nothing is kept.

    Args:
        ask: sends messages to a model and returns the text of its answer.
        aask: the same, awaited.
        tools: names of the tools that are bound beside the prompts.
        thresholds: for the findings that the model is told of.
        remember: most prompts whose rewrite is kept.
        count: what counts tokens.
    """

    def __init__(
        self,
        ask: Ask,
        aask: AsyncAsk,
        *,
        tools: Sequence[str] = (),
        thresholds: PromptThresholds = DEFAULTS,
        remember: int = 256,
        count: TokenCounter = estimate,
    ) -> None:
        self._ask, self._aask = ask, aask
        self._tools, self._count = tuple(tools), count
        self._thresholds = instance(thresholds, PromptThresholds, "thresholds", "PromptThresholds")
        self._known: Memo[Refrased] = Memo(whole(remember, "remember", 1))
        self._guard = threading.Lock()
        # A lock for each prompt under way (and event loop); who waits for one keeps it alive.
        self._locks: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._async_locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    def rewrite(self, prompt: str) -> Refrased:
        """Return the prompt rewritten; a prompt seen before comes from memory.

        The model is asked once, and once more where its answer lost something; then the prompt is compacted instead,
        and ``note`` says so.

        Raises:
            ConfigurationError: ``prompt`` is no text.
            Exception: what the model raises. Nothing is kept then.
        """
        key = digest(text(prompt, "prompt"))
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            return self._known(key, lambda: self._run(prompt))

    async def arewrite(self, prompt: str) -> Refrased:
        """The async twin of `rewrite`. Concurrent calls for one prompt wait for the first."""
        key = digest(text(prompt, "prompt"))
        with self._guard:
            place = (id(asyncio.get_running_loop()), key)
            lock = self._async_locks.setdefault(place, asyncio.Lock())
        async with lock:
            known = self._known.get(key)
            if known is None:
                known = await self._arun(prompt)
                self._known(key, lambda: known)
            return known

    def _steps(self, prompt: str) -> Generator[list[Message], str, Refrased]:
        return rewriting(prompt, tools=self._tools, thresholds=self._thresholds, count=self._count)

    def _run(self, prompt: str) -> Refrased:
        steps = self._steps(prompt)
        try:
            messages = next(steps)
            while True:
                messages = steps.send(self._ask(messages))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _arun(self, prompt: str) -> Refrased:
        steps = self._steps(prompt)
        try:
            messages = next(steps)
            while True:
                messages = steps.send(await self._aask(messages))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
