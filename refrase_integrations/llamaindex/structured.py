"""Structured prediction: what to send for a pydantic class, and how to read the reply, whole or as it grows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Generic, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from refrase_integrations.errors import ConfigurationError, StructuredOutputError
from refrase_integrations.kimi.inputs import instance, names

Model = TypeVar("Model", bound=BaseModel)
_dispatcher = get_dispatcher(__name__)

_GROWTH = 1 / 32
"""A growing answer is read again when it is longer by this part: all readings together cost a multiple of its length,
not its square."""


class StructuredPrediction(FunctionCallingLLM):
    """The four ways of structured prediction, over `chat` and its kin."""

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of a pydantic class, with thinking left as it is.

        The schema travels as ``response_format``; what the host lacks is made up for (a tool, validation, one re-ask).
        ``pydantic_program_mode`` other than the default takes LlamaIndex's own way.

        Args:
            output_cls: the class.
            prompt: the prompt.
            llm_kwargs: arguments for this call, as for `chat`.
            prompt_args: values for the prompt's variables.

        Raises:
            StructuredOutputError: the reply does not fit the class, also after the re-ask.
        """
        if self.pydantic_program_mode != PydanticProgramMode.DEFAULT:
            return cast(Model, super().structured_predict(output_cls, cast(Any, prompt), llm_kwargs, **prompt_args))
        _dispatcher.event(_started(output_cls, prompt, prompt_args))
        reply = self.chat(self._formed(prompt, prompt_args), **_asked(output_cls, llm_kwargs))
        found = read_object(output_cls, reply.message.content or "")
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """The async twin of `structured_predict`."""
        if self.pydantic_program_mode != PydanticProgramMode.DEFAULT:
            own = await super().astructured_predict(output_cls, cast(Any, prompt), llm_kwargs, **prompt_args)
            return cast(Model, own)
        _dispatcher.event(_started(output_cls, prompt, prompt_args))
        reply = await self.achat(self._formed(prompt, prompt_args), **_asked(output_cls, llm_kwargs))
        found = read_object(output_cls, reply.message.content or "")
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Stream an object as it grows; the last one fits the class, else a `StructuredOutputError` is raised: what was
        handed out is not asked for again. See `structured_predict`.

        An object that does not fit yet is of a class with the same fields, all of them optional.
        """
        if self.pydantic_program_mode != PydanticProgramMode.DEFAULT:
            yield from super().stream_structured_predict(output_cls, cast(Any, prompt), llm_kwargs, **prompt_args)
            return
        _dispatcher.event(_started(output_cls, prompt, prompt_args))
        growing = Growing(output_cls)
        for reply in self.stream_chat(self._formed(prompt, prompt_args), **_asked(output_cls, llm_kwargs)):
            if growing.feed(reply.message.content or ""):
                _dispatcher.event(LLMStructuredPredictInProgressEvent(output=growing.partial))
                yield cast("Model | FlexibleModel", growing.partial)
        found = growing.whole()
        if found != growing.partial:
            yield found
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """The async twin of `stream_structured_predict`."""
        if self.pydantic_program_mode != PydanticProgramMode.DEFAULT:
            return await super().astream_structured_predict(output_cls, cast(Any, prompt), llm_kwargs, **prompt_args)
        _dispatcher.event(_started(output_cls, prompt, prompt_args))
        replies = await self.astream_chat(self._formed(prompt, prompt_args), **_asked(output_cls, llm_kwargs))

        async def grow() -> AsyncGenerator[Model | FlexibleModel, None]:
            growing = Growing(output_cls)
            async for reply in replies:
                if growing.feed(reply.message.content or ""):
                    _dispatcher.event(LLMStructuredPredictInProgressEvent(output=growing.partial))
                    yield cast("Model | FlexibleModel", growing.partial)
            found = growing.whole()
            if found != growing.partial:
                yield found
            _dispatcher.event(LLMStructuredPredictEndEvent(output=found))

        return grow()

    def _formed(self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> list[ChatMessage]:
        try:
            formed = prompt.format_messages(llm=self, **prompt_args)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            wanted = ", ".join(sorted(prompt.template_vars))
            raise ConfigurationError(
                f"the prompt cannot be filled in ({type(error).__name__}); it has the variables {wanted or 'none'}"
            ) from None
        return self._extend_messages(formed)


def response_format(output_cls: type[BaseModel]) -> dict[str, Any]:
    """Return the wire's ``response_format`` for a pydantic class.

    Raises:
        ConfigurationError: it is no pydantic class, or has a field without a JSON schema.
    """
    try:
        schema = output_cls.model_json_schema()
    except Exception as error:  # noqa: BLE001 - a class of the user's may raise whatever it likes
        raise ConfigurationError(f"structured prediction needs a pydantic class: {str(error)[:300]}") from None
    name = str(schema.get("title") or output_cls.__name__)
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def read_object(output_cls: type[Model], content: str) -> Model:
    """Return the object that a reply's text holds.

    Raises:
        StructuredOutputError: the text does not fit the class; names the fields, not the values.
    """
    try:
        return output_cls.model_validate_json(_unfenced(content))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise StructuredOutputError(f"the reply does not fit {output_cls.__name__}: {problems}") from None


class Growing(Generic[Model]):
    """Reads an answer while it streams in.

    Args:
        output_cls: the class that the whole answer is to fit.
    """

    def __init__(self, output_cls: type[Model]) -> None:
        self._output_cls = output_cls
        self._partial_cls = create_flexible_model(output_cls)
        self._content = ""
        self._read = 0
        self.partial: Model | FlexibleModel | None = None
        """The object so far; until it fits, of a class with the same fields, all of them optional."""

    def feed(self, content: str) -> bool:
        """Take the text so far, tell whether `partial` is news."""
        self._content = content
        if len(content) <= self._read * (1 + _GROWTH):
            return False
        self._read = len(content)
        try:
            found = from_json(_unfenced(content), allow_partial="trailing-strings")
        except ValueError:
            return False
        if not isinstance(found, dict):
            return False
        before = self.partial
        try:
            self.partial = self._output_cls.model_validate(found)
        except ValidationError:
            self.partial = self._partial_cls.model_validate(found)
        return self.partial != before

    def whole(self) -> Model:
        """Return the object of the whole text.

        Raises:
            StructuredOutputError: it does not fit the class.
        """
        return read_object(self._output_cls, self._content)


def _unfenced(content: str) -> str:
    """Return what stands in a code fence, where the text opens with one; a stream cannot take it off any more."""
    text = content.strip()
    if not text.startswith("```"):
        return text
    return text.partition("\n")[2].removesuffix("```")


def _started(
    output_cls: type[Model], prompt: BasePromptTemplate, prompt_args: dict[str, Any]
) -> LLMStructuredPredictStartEvent:
    if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
        raise ConfigurationError("structured prediction needs a pydantic class")
    instance(prompt, BasePromptTemplate, "prompt", "a prompt template, such as PromptTemplate('...')")
    return LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)


def _asked(output_cls: type[Model], llm_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of the call; the tool settings of LlamaIndex's own programs have no meaning here."""
    given = instance(llm_kwargs or {}, Mapping, "llm_kwargs", "a dict")
    names(list(given), "the keys of llm_kwargs")
    own = {key: value for key, value in given.items() if key not in _OF_PROGRAMS}
    return {**own, "response_format": response_format(output_cls)}


_OF_PROGRAMS = frozenset({"tool_required", "tool_choice", "allow_parallel_tool_calls"})
