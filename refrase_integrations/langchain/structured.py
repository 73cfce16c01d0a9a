"""`with_structured_output`: what to send for a schema, and how to read the reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.output_parsers.transform import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import TBaseModel, is_basemodel_subclass
from pydantic import ValidationError

from refrase_integrations.errors import ConfigurationError, StructuredOutputError
from refrase_integrations.kimi.inputs import text
from refrase_integrations.kimi.schema.validation import find_error
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.langchain.base import Method, PracticedChatModel
from refrase_integrations.langchain.failures import classified

_JUDGED = Practices(forced_choice="advise")
"""A reply without the call is handed out: the parser judges it."""
_BESIDE = Practices(unanswered="advise")
"""With the raw message beside it no reply raises: an empty one is handed out too, and the parser says what is wrong."""


def structured_output(
    model: PracticedChatModel,
    schema: dict[str, Any] | type | None,
    method: Method,
    *,
    include_raw: bool,
    strict: bool | None,
    kwargs: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Build the runnable of `PracticedChatModel.with_structured_output`; see there."""
    if method not in get_args(Method):
        raise ConfigurationError(f"method must be one of {', '.join(get_args(Method))}")
    if schema is None and method != "json_mode":
        raise ConfigurationError(f"with_structured_output(method={method!r}) needs a schema")
    described = None if schema is None else _described(schema)
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": described}
    is_pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    own = kwargs.pop("practices", None)
    beneath = [_BESIDE] if include_raw else []
    parser: _AnswerParser
    if method == "function_calling" and schema is not None and described is not None:
        name = described["function"]["name"]
        practices = Practices.of(own).over(_JUDGED, *beneath)
        bound = model.bind_tools(
            [schema],
            tool_choice=name,
            strict=strict,
            parallel_tool_calls=False,
            practices=practices.model_dump(exclude_unset=True),
            ls_structured_output_format=traced,
            **kwargs,
        )
        parser = (
            _PydanticCall(tools=[schema], first_tool_only=True)
            if is_pydantic
            else _JsonCall(key_name=name, first_tool_only=True, fits=described["function"]["parameters"])
        )
    else:
        wanted: dict[str, Any] = {"type": "json_object"}
        if method == "json_schema" and schema is not None:
            wanted = response_format(schema, strict)
        practices = Practices.of(own).over(*beneath)
        if practices.model_fields_set:
            kwargs["practices"] = practices.model_dump(exclude_unset=True)
        bound = model.bind(response_format=wanted, ls_structured_output_format=traced, **kwargs)
        fits = None if described is None else described["function"]["parameters"]
        parser = _PydanticAnswer(pydantic_object=schema) if is_pydantic else _JsonAnswer(fits=fits)
    return RunnableMap(raw=bound) | RunnableLambda(_beside_raw(parser)) if include_raw else bound | parser


def response_format(schema: dict[str, Any] | type, strict: bool | None = None) -> dict[str, Any]:
    """Return the wire's ``response_format`` for a pydantic class, a TypedDict class or a JSON schema.

    Raises:
        ConfigurationError: the schema is none of these.
    """
    try:
        parameters = convert_to_json_schema(schema)
    except Exception as error:  # noqa: BLE001 - as below
        raise _no_schema(error) from None
    name = text(parameters.get("title") or "answer", "the schema's title")
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": strict is not False, "schema": parameters},
    }


def _described(schema: dict[str, Any] | type) -> dict[str, Any]:
    try:
        described = convert_to_openai_tool(schema)
    except Exception as error:  # noqa: BLE001 - a class of the user's, or langchain-core's reading of whatever it is
        raise _no_schema(error) from None
    if not isinstance(described["function"].get("parameters"), dict):
        raise ConfigurationError("this is no schema for structured output: it has no properties")
    return described


def _no_schema(error: Exception) -> ConfigurationError:
    why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
    return ConfigurationError(f"this is no schema for structured output: {why}")


def _beside_raw(parser: _AnswerParser) -> Any:
    def read(reply: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**reply, "parsed": parser.invoke(reply["raw"]), "parsing_error": None}
        except Exception as error:  # noqa: BLE001 - also what the user's own validators raise
            return {**reply, "parsed": None, "parsing_error": error}

    return read


class _AnswerParser(BaseCumulativeTransformOutputParser[Any]):
    """Streams what is there so far, and at the end judges the whole: an answer that does not fit is never silent."""

    fits: Mapping[str, Any] | None = None
    """JSON schema that a dict must fit; None where a pydantic class judges."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if partial:
            return super().parse_result(result, partial=True)
        with classified():
            try:
                parsed = super().parse_result(result)
            except (OutputParserException, ValidationError, ValueError) as error:
                raise StructuredOutputError(_unfit(result, _words(error))) from error
            if parsed is None:
                raise StructuredOutputError(_unfit(result, "there is no answer in the form asked for"))
            problem = None if self.fits is None else find_error(parsed, self.fits)
            if problem is not None:
                raise StructuredOutputError(_unfit(result, problem))
            return parsed

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        seen: list[Any] = []

        def noted() -> Iterator[str | BaseMessage]:
            for piece in input:
                seen.append(piece)
                yield piece

        yield from super()._transform(noted())
        self.parse_result(_joined(seen))

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        seen: list[Any] = []

        async def noted() -> AsyncIterator[str | BaseMessage]:
            async for piece in input:
                seen.append(piece)
                yield piece

        async for parsed in super()._atransform(noted()):
            yield parsed
        self.parse_result(_joined(seen))


class _PydanticAnswer(_AnswerParser, PydanticOutputParser[TBaseModel]):
    pass


class _JsonAnswer(_AnswerParser, JsonOutputParser):
    pass


class _PydanticCall(_AnswerParser, PydanticToolsParser):
    pass


class _JsonCall(_AnswerParser, JsonOutputKeyToolsParser):
    pass


def _joined(seen: list[Any]) -> list[Generation]:
    if seen and all(isinstance(piece, AIMessageChunk) for piece in seen):
        return [ChatGeneration(message=add_ai_message_chunks(*seen))]
    if seen and isinstance(seen[-1], BaseMessage):
        return [ChatGeneration(message=seen[-1])]
    return [Generation(text="".join(map(str, seen)))]


def _words(error: Exception) -> str:
    """Say what is wrong, without the reply's own text: the error that this one comes from has it."""
    cause = error if isinstance(error, ValidationError) else error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        items = cause.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in items)
    return "it is not JSON" if isinstance(error, OutputParserException) else type(error).__name__


def _unfit(result: list[Generation], problem: str) -> str:
    message = cast("Any", getattr(result[0], "message", None))
    calls = any(getattr(message, name, None) for name in ("tool_calls", "invalid_tool_calls"))
    if message is not None and not message.text and not calls:
        problem = "it holds neither text nor a tool call"
    cut = getattr(message, "response_metadata", {}).get("finish_reason") == "length"
    hint = " The reply was cut at the output limit: raise max_tokens." if cut else ""
    return f"The reply does not fit the schema: {problem}.{hint}"
