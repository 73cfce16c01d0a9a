"""How one row is answered, whatever answers it: a LangChain runnable, a LlamaIndex LLM, or a function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from refrase_integrations.errors import ConfigurationError

Caller = Callable[[Any], Awaitable[Any]]


def caller_of(model: Any) -> Caller:
    """Return the async function that answers one input.

    Args:
        model: with ``ainvoke`` (a chat model, chain or agent of LangChain); with ``acomplete`` and ``achat`` (an LLM of
            LlamaIndex: a text is a prompt, a message or a list of them a conversation); or a function, async or not.

    Raises:
        ConfigurationError: it is none of these.
    """
    known = not isinstance(model, type)
    if known and hasattr(model, "ainvoke"):
        return partial(_invoke, model)
    if known and hasattr(model, "acomplete") and hasattr(model, "achat"):
        return partial(_chat, model)
    if not known or not callable(model):
        raise ConfigurationError(
            f"a batch runs a LangChain model or chain, a LlamaIndex LLM or a function, not {_named(model)}"
        )
    if inspect.iscoroutinefunction(model) or inspect.iscoroutinefunction(getattr(model, "__call__", None)):  # noqa: B004
        return partial(_await, model)
    return partial(asyncio.to_thread, model)


def _named(model: Any) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__


async def _invoke(model: Any, given: Any) -> Any:
    return await model.ainvoke(given)


async def _chat(llm: Any, given: Any) -> Any:
    if isinstance(given, str):
        return await llm.acomplete(given)
    return await llm.achat(list(given) if isinstance(given, (list, tuple)) else [given])


async def _await(function: Any, given: Any) -> Any:
    return await function(given)
