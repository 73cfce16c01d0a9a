"""What does not belong anywhere, and every place that a user can hand it in at: the tables of `test_malformed`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

import refrase_integrations as refrase
from refrase_integrations import langchain, llamaindex
from refrase_integrations.client.formula import Formulas
from refrase_integrations.kimi import catalogue
from refrase_integrations.kimi.practices import register_practice
from refrase_integrations.kimi.prompt.rewrite import rewriting
from refrase_integrations.kimi.tools import lint_tools
from refrase_integrations.simulator import KimiSimulator

HALF = "half \ud83d of a smile"


class Odd:
    """Nothing that JSON, a tool or a schema could be."""


class City(BaseModel):
    """A city."""

    name: str


def find_it(word: str) -> str:
    """Find a word."""
    return word


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _ring() -> dict[str, Any]:
    ring: dict[str, Any] = {"type": "object", "properties": {}}
    ring["properties"]["me"] = ring
    return ring


def _deep_list() -> Any:
    value: Any = "x"
    for _ in range(5_000):
        value = [value]
    return value


def _deep_schema() -> Any:
    value: dict[str, Any] = {"type": "string"}
    for _ in range(3_000):
        value = {"type": "object", "properties": {"a": value}}
    return value


JUNK: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "blank": lambda: " \n",
    "word": lambda: "x",
    "zero byte": lambda: "a\x00b",
    "half a character": lambda: HALF,
    "true": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "huge": lambda: 10**5_000,
    "fraction": lambda: 1.5,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "bytes": lambda: b"\xff",
    "no items": list,
    "list of none": lambda: [None],
    "list of a number": lambda: [5],
    "list of a word": lambda: ["x"],
    "list of half a character": lambda: [HALF],
    "list of an object": lambda: [{}],
    "pair": lambda: ("x", 5),
    "no fields": dict,
    "a field": lambda: {"a": 5},
    "a field of another kind": lambda: {5: float("nan")},
    "a type that is none": lambda: {"type": 5, "properties": 5, "role": 5, "content": 5, "function": 5, "name": 5},
    "set": lambda: {1},
    "generator": lambda: (one for one in (None, 5)),
    "object": Odd,
    "class": lambda: Odd,
    "function": lambda: len,
    "error": lambda: ValueError("x"),
    "list in itself": _loop,
    "object in itself": _ring,
    "deep list": _deep_list,
    "deep object": _deep_schema,
}
"""By name what makes it: generators are used up."""


class Entry(NamedTuple):
    """One place where something is handed in."""

    name: str
    use: Callable[[Any, str], Any]
    """Takes the value and the address of a host."""


def _finish(made: Any) -> Any:
    """Read a stream or wait for a coroutine."""
    if asyncio.iscoroutine(made):
        return asyncio.run(made)
    return list(made) if isinstance(made, Iterator) else made


# -- LangChain -------------------------------------------------------------------------------------------


def chat(url: str, **fields: Any) -> Any:
    return langchain.ChatKimi(**{"host": "moonshot", "base_url": url, "api_key": "sk-test", "max_retries": 0, **fields})


def _chat_field(name: str) -> Entry:
    return Entry(f"ChatKimi({name}=)", lambda value, url: chat(url, **{name: value}).invoke("Hi."))


def _chat_argument(name: str) -> Entry:
    return Entry(f"ChatKimi.invoke({name}=)", lambda value, url: chat(url).invoke("Hi.", **{name: value}))


def _chat_message(name: str, made: Callable[[Any], Any]) -> Entry:
    return Entry(f"ChatKimi, {name}", lambda value, url: chat(url).invoke(made(value)))


def _called(args: Any, **more: Any) -> list[Any]:
    call = {"name": "find_it", "args": args, "id": "1"}
    return [HumanMessage("x"), AIMessage("", tool_calls=[call], **more), ToolMessage("x", tool_call_id="1")]


def _function(**fields: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "find_it", **fields}}]


def wrapped(url: str, **settings: Any) -> Any:
    from langchain_openai import ChatOpenAI

    inner = ChatOpenAI(model="kimi-k2.6", base_url=url, api_key="sk-test", max_retries=0)
    return langchain.with_kimi_practices(inner, **{"host": "moonshot", **settings})


CHAT_FIELDS = (
    "model", "host", "base_url", "api_key", "thinking", "reasoning_effort", "temperature", "top_p", "presence_penalty",
    "frequency_penalty", "seed", "stop", "max_tokens", "practices", "timeout", "deadline", "stall_timeout",
    "max_retries", "continue_on_length", "stream_usage", "live_tools", "extra_body", "default_headers",
    "default_query", "http_client", "http_async_client", "plain_stream",
)  # fmt: skip
ARGUMENTS = (
    "model", "thinking", "reasoning_effort", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed",
    "stop", "max_tokens", "timeout", "deadline", "stall_timeout", "stream_usage", "continue_on_length", "live_tools",
    "practices", "extra_body", "tools", "tool_choice", "strict", "parallel_tool_calls", "response_format",
    "max_completion_tokens", "prompt_cache_key", "safety_identifier", "user", "logprobs", "top_logprobs", "logit_bias",
    "host", "nope",
)  # fmt: skip

LANGCHAIN: list[Entry] = [
    *map(_chat_field, (*CHAT_FIELDS, "n", "streaming", "model_kwargs", "tokenizer", "nope")),
    *map(_chat_argument, (*ARGUMENTS, "n", "stream")),
    *(Entry(f"ChatKimi.invoke(extra_body={name})", lambda value, url, name=name: chat(url).invoke("Hi.", extra_body={name: value})) for name in ("messages", "tools", "tool_choice", "model", "max_tokens", "thinking", "temperature", "response_format", "stream")),
    Entry("ChatKimi.invoke(extra_body=), a message", lambda value, url: chat(url).invoke("Hi.", extra_body={"messages": [value]})),
    Entry("ChatKimi.invoke(response_format=), json_schema", lambda value, url: chat(url).invoke("Hi.", response_format={"type": "json_schema", "json_schema": value})),
    Entry("ChatKimi.invoke(response_format=), a schema", lambda value, url: chat(url).invoke("Hi.", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": value}})),
    Entry("ChatKimi.invoke(tool_choice=), a function", lambda value, url: chat(url).bind_tools([find_it]).invoke("Hi.", tool_choice={"type": "function", "function": value})),
    Entry("ChatKimi.invoke", lambda value, url: chat(url).invoke(value)),
    Entry("ChatKimi.stream", lambda value, url: list(chat(url).stream(value))),
    Entry("ChatKimi.ainvoke", lambda value, url: asyncio.run(chat(url).ainvoke(value))),
    Entry("ChatKimi.batch", lambda value, url: chat(url).batch([value])),
    Entry("ChatKimi.generate", lambda value, url: chat(url).generate([[value]])),
    _chat_message("a user's block", lambda value: [HumanMessage([{"type": "text", "text": value}])]),
    _chat_message("a block's type", lambda value: [HumanMessage([{"type": value}])]),
    _chat_message("an image", lambda value: [HumanMessage([{"type": "image_url", "image_url": value}])]),
    _chat_message("an image's data", lambda value: [HumanMessage([{"type": "image", "base64": value}])]),
    _chat_message("an image's source", lambda value: [HumanMessage([{"type": "image", "source": value}])]),
    _chat_message("an image's address", lambda value: [HumanMessage([{"type": "image", "url": value}])]),
    _chat_message("a video", lambda value: [HumanMessage([{"type": "video", "url": value}])]),
    _chat_message("a tool's block", lambda value: [*_called({})[:2], ToolMessage([{"type": "json", "data": value}], tool_call_id="1")]),
    _chat_message("an assistant's block", lambda value: [HumanMessage("x"), AIMessage([{"type": "reasoning", "reasoning": value}]), HumanMessage("x")]),
    _chat_message("a call's argument", lambda value: _called({"a": value})),
    _chat_message("remembered arguments", lambda value: _called({}, additional_kwargs={"tool_arguments": value})),
    _chat_message("a remembered argument", lambda value: _called({}, additional_kwargs={"tool_arguments": {"1": value}})),
    _chat_message("remembered errors", lambda value: _called({}, additional_kwargs={"tool_call_errors": value})),
    _chat_message("a remembered error", lambda value: _called({}, additional_kwargs={"tool_call_errors": {"1": value}})),
    _chat_message("reasoning", lambda value: _called({}, additional_kwargs={"reasoning_content": value})),
    _chat_message("reasoning's key", lambda value: _called({}, additional_kwargs={"reasoning_content": "x", "reasoning_key": value})),
    _chat_message("reasoning's details", lambda value: _called({}, additional_kwargs={"reasoning_details": value}, response_metadata={"refrase": {"host": "moonshot"}})),
    _chat_message("a report", lambda value: _called({}, response_metadata={"refrase": value})),
    Entry("ChatKimi.bind_tools", lambda value, url: chat(url).bind_tools(value).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, one", lambda value, url: chat(url).bind_tools([value]).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, a function", lambda value, url: chat(url).bind_tools([{"type": "function", "function": value}]).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, a name", lambda value, url: chat(url).bind_tools(_function(name=value)).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, a description", lambda value, url: chat(url).bind_tools(_function(description=value)).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, parameters", lambda value, url: chat(url).bind_tools(_function(parameters=value)).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, properties", lambda value, url: chat(url).bind_tools(_function(parameters={"type": "object", "properties": value})).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, a property", lambda value, url: chat(url).bind_tools(_function(parameters={"type": "object", "properties": {"a": value}})).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, an enum", lambda value, url: chat(url).bind_tools(_function(parameters={"type": "object", "properties": {"a": {"enum": value}}})).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, MCP", lambda value, url: chat(url).bind_tools([{"name": "find_it", "inputSchema": value}]).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, a choice", lambda value, url: chat(url).bind_tools([find_it], tool_choice=value).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, strict", lambda value, url: chat(url).bind_tools([find_it], strict=value).invoke("Hi.")),
    Entry("ChatKimi.bind_tools, live", lambda value, url: chat(url).bind_tools([find_it], live_tools=value).invoke("Hi.")),
    Entry("ChatKimi.with_structured_output", lambda value, url: chat(url).with_structured_output(value).invoke("Hi.")),
    Entry("ChatKimi.with_structured_output, by a call", lambda value, url: chat(url).with_structured_output(value, method="function_calling").invoke("Hi.")),
    Entry("ChatKimi.with_structured_output, a schema", lambda value, url: chat(url).with_structured_output({"title": "x", "type": "object", "properties": value}).invoke("Hi.")),
    Entry("ChatKimi.with_structured_output, a property", lambda value, url: chat(url).with_structured_output({"title": "x", "type": "object", "properties": {"a": value}}).invoke("Hi.")),
    Entry("ChatKimi.with_structured_output, a title", lambda value, url: chat(url).with_structured_output({"title": value, "type": "object", "properties": {}}).invoke("Hi.")),
    Entry("ChatKimi.with_structured_output, a method", lambda value, url: chat(url).with_structured_output(City, method=value).invoke("Hi.")),
    Entry("ChatKimi.get_num_tokens", lambda value, url: chat(url).get_num_tokens(value)),
    Entry("ChatKimi.get_token_ids", lambda value, url: chat(url).get_token_ids(value)),
    Entry("ChatKimi.get_num_tokens_from_messages", lambda value, url: chat(url).get_num_tokens_from_messages(value)),
    Entry("ChatKimi.get_num_tokens_from_messages, tools", lambda value, url: chat(url).get_num_tokens_from_messages([HumanMessage("x")], value)),
    Entry("langchain.with_kimi_practices", lambda value, url: langchain.with_kimi_practices(value)),
    *(Entry(f"langchain.with_kimi_practices({name}=)", lambda value, url, name=name: wrapped(url, **{name: value}).invoke("Hi.")) for name in ("model_name", "host", "practices")),
    Entry("a wrapped model, invoke", lambda value, url: wrapped(url).invoke(value)),
    Entry("a wrapped model, a block", lambda value, url: wrapped(url).invoke([HumanMessage([{"type": "text", "text": value}])])),
    Entry("a wrapped model, bind_tools", lambda value, url: wrapped(url).bind_tools([value]).invoke("Hi.")),
    Entry("a wrapped model, parameters", lambda value, url: wrapped(url).bind_tools(_function(parameters=value)).invoke("Hi.")),
    Entry("a wrapped model, with_structured_output", lambda value, url: wrapped(url).with_structured_output(value).invoke("Hi.")),
    *(Entry(f"a wrapped model.invoke({name}=)", lambda value, url, name=name: wrapped(url).invoke("Hi.", **{name: value})) for name in ("thinking", "temperature", "max_tokens", "stop", "tool_choice", "extra_body", "practices")),
    *(Entry(f"RefraseNode({name}=)", lambda value, url, name=name: langchain.RefraseNode(**{name: value}).invoke({"messages": ["Hi."]})) for name in ("model", "host", "tools", "practices", "messages_key", "output_key")),
    Entry("RefraseNode.invoke", lambda value, url: langchain.RefraseNode().invoke(value)),
    Entry("RefraseNode.invoke, messages", lambda value, url: langchain.RefraseNode().invoke({"messages": value})),
    Entry("RefraseNode.invoke, a message", lambda value, url: langchain.RefraseNode().invoke({"messages": [SystemMessage("x"), value]})),
    Entry("RefraseNode.invoke, a block", lambda value, url: langchain.RefraseNode().invoke([HumanMessage([{"type": "text", "text": value}])])),
    Entry("RefraseNode.invoke, a config", lambda value, url: langchain.RefraseNode().invoke("Hi.", value)),
    Entry("route_fresh_data", lambda value, url: langchain.route_fresh_data(value)),
    Entry("route_fresh_data, messages", lambda value, url: langchain.route_fresh_data({"messages": value})),
    *(Entry(f"KimiMiddleware({name}=)", lambda value, url, name=name: _agent(url, **{name: value})) for name in ("host", "model_name", "practices", "nudge", "handle_tool_errors")),
    Entry("langchain.repair_messages", lambda value, url: langchain.repair_messages(value)),
    Entry("langchain.repair_messages, one", lambda value, url: langchain.repair_messages([value])),
    Entry("langchain.repair_messages, a block", lambda value, url: langchain.repair_messages([HumanMessage([{"type": "text", "text": value}]), *_called({"a": value})[1:2]])),
    Entry("repair_thread", lambda value, url: langchain.repair_thread(value, {"configurable": {"thread_id": "1"}})),
    Entry("arepair_thread", lambda value, url: asyncio.run(langchain.arepair_thread(value, {"configurable": {"thread_id": "1"}}))),
    Entry("repair_thread, a config", lambda value, url: langchain.repair_thread(_graph(url), value)),
    Entry("repair_thread, a key", lambda value, url: langchain.repair_thread(_graph(url), {"configurable": {"thread_id": "1"}}, messages_key=value)),
    Entry("langchain.Refraser", lambda value, url: langchain.Refraser(value)),
    *(Entry(f"langchain.Refraser({name}=)", lambda value, url, name=name: langchain.Refraser(chat(url), **{name: value}).rewrite("Say it. Say it.")) for name in ("tools", "thresholds", "remember")),
    Entry("langchain.Refraser, a tool", lambda value, url: langchain.Refraser(chat(url), tools=[value])),
    Entry("langchain.Refraser.rewrite", lambda value, url: langchain.Refraser(chat(url)).rewrite(value)),
    Entry("langchain.Refraser.arewrite", lambda value, url: asyncio.run(langchain.Refraser(chat(url)).arewrite(value))),
    Entry("langchain.formula_tools", lambda value, url: langchain.formula_tools(value, base_url=url, host="moonshot", api_key="sk-test", max_retries=0)),
    Entry("langchain.formula_tools, one", lambda value, url: langchain.formula_tools([value], base_url=url, host="moonshot", api_key="sk-test", max_retries=0)),
    *(Entry(f"langchain.formula_tools({name}=)", lambda value, url, name=name: langchain.formula_tools(["date"], **{"base_url": url, "host": "moonshot", "api_key": "sk-test", "max_retries": 0, name: value})) for name in ("host", "base_url", "api_key", "timeout", "max_retries")),
    Entry("a Formula tool's argument", lambda value, url: Formulas.of(base_url=url, host="moonshot", api_key="sk-test", max_retries=0).run(_fetch(url), {"url": value})),
    Entry("a Formula tool's arguments", lambda value, url: Formulas.of(base_url=url, host="moonshot", api_key="sk-test", max_retries=0).run(_fetch(url), value)),
]  # fmt: skip


def _fetch(url: str) -> Any:
    return Formulas.of(base_url=url, host="moonshot", api_key="sk-test").tools(["fetch"])[0]


def _agent(url: str, **settings: Any) -> Any:
    from langchain.agents import create_agent

    agent = create_agent(chat(url), [find_it], middleware=[langchain.KimiMiddleware(**settings)])
    return agent.invoke({"messages": [("user", "Hi.")]})


def _graph(url: str) -> Any:
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    return create_agent(chat(url), [find_it], checkpointer=InMemorySaver())


# -- LlamaIndex ------------------------------------------------------------------------------------------

HELLO = [ChatMessage(role="user", content="Hi.")]
PROMPT = PromptTemplate("Say {word}.")


def kimi(url: str, **fields: Any) -> Any:
    return llamaindex.Kimi(**{"host": "moonshot", "base_url": url, "api_key": "sk-test", "max_retries": 0, **fields})


def around(url: str, **settings: Any) -> Any:
    return llamaindex.with_kimi_practices(_homemade(url), **{"host": "moonshot", "model_name": "kimi-k2.6", **settings})


def _homemade(url: str) -> Any:
    from tests.llamaindex.homemade import Homemade

    return Homemade(model="kimi-k2.6", base_url=url)


def _said(role: str, *blocks: Any, **kwargs: Any) -> list[ChatMessage]:
    return [*HELLO, ChatMessage(role=role, blocks=list(blocks), additional_kwargs=kwargs)]


LLAMAINDEX: list[Entry] = [
    *(Entry(f"Kimi({name}=)", lambda value, url, name=name: kimi(url, **{name: value}).chat(HELLO)) for name in (*CHAT_FIELDS, "additional_kwargs", "thread_id", "tokenizer", "system_prompt", "nope")),
    *(Entry(f"Kimi.chat({name}=)", lambda value, url, name=name: kimi(url).chat(HELLO, **{name: value})) for name in (*ARGUMENTS, "allow_parallel_tool_calls", "thread_id")),
    Entry("Kimi.chat", lambda value, url: kimi(url).chat(value)),
    Entry("Kimi.chat, one", lambda value, url: kimi(url).chat([value])),
    Entry("Kimi.achat", lambda value, url: asyncio.run(kimi(url).achat(value))),
    Entry("Kimi.stream_chat", lambda value, url: _finish(kimi(url).stream_chat(value))),
    Entry("Kimi.stream_chat, one", lambda value, url: _finish(kimi(url).stream_chat([value]))),
    Entry("Kimi.complete", lambda value, url: kimi(url).complete(value)),
    Entry("Kimi.acomplete", lambda value, url: asyncio.run(kimi(url).acomplete(value))),
    Entry("Kimi.stream_complete", lambda value, url: _finish(kimi(url).stream_complete(value))),
    Entry("Kimi.chat, a call's arguments", lambda value, url: kimi(url).chat(_said("assistant", ToolCallBlock(tool_call_id="1", tool_name="find_it", tool_kwargs={"a": value})))),
    Entry("Kimi.chat, calls of the older form", lambda value, url: kimi(url).chat(_said("assistant", tool_calls=value))),
    Entry("Kimi.chat, a call of the older form", lambda value, url: kimi(url).chat(_said("assistant", tool_calls=[value]))),
    Entry("Kimi.chat, its function", lambda value, url: kimi(url).chat(_said("assistant", tool_calls=[{"id": "1", "function": value}]))),
    Entry("Kimi.chat, its arguments", lambda value, url: kimi(url).chat(_said("assistant", tool_calls=[{"id": value, "function": {"name": value, "arguments": value}}]))),
    Entry("Kimi.chat, a tool's id", lambda value, url: kimi(url).chat(_said("tool", TextBlock(text="x"), tool_call_id=value, name=value))),
    Entry("Kimi.chat, reasoning", lambda value, url: kimi(url).chat(_said("assistant", TextBlock(text="x"), reasoning_content=value))),
    Entry("Kimi.chat, reasoning's information", lambda value, url: kimi(url).chat(_said("assistant", ThinkingBlock(content="x", additional_information={"reasoning_key": value, "host": "moonshot", "reasoning_details": value}), TextBlock(text="x")))),
    Entry("Kimi.chat_with_tools", lambda value, url: kimi(url).chat_with_tools(value, user_msg="Hi.")),
    Entry("Kimi.chat_with_tools, one", lambda value, url: kimi(url).chat_with_tools([value], user_msg="Hi.")),
    Entry("Kimi.chat_with_tools, parameters", lambda value, url: kimi(url).chat_with_tools(_function(parameters=value), user_msg="Hi.")),
    Entry("Kimi.chat_with_tools, a property", lambda value, url: kimi(url).chat_with_tools(_function(parameters={"type": "object", "properties": {"a": value}}), user_msg="Hi.")),
    Entry("Kimi.chat_with_tools, a message", lambda value, url: kimi(url).chat_with_tools([find_it], user_msg=value)),
    Entry("Kimi.chat_with_tools, a history", lambda value, url: kimi(url).chat_with_tools([find_it], chat_history=value)),
    Entry("Kimi.chat_with_tools, a choice", lambda value, url: kimi(url).chat_with_tools([find_it], user_msg="Hi.", tool_choice=value)),
    Entry("Kimi.chat_with_tools, tool_required", lambda value, url: kimi(url).chat_with_tools([find_it], user_msg="Hi.", tool_required=value)),
    Entry("Kimi.chat_with_tools, strict", lambda value, url: kimi(url).chat_with_tools([find_it], user_msg="Hi.", strict=value)),
    Entry("Kimi.get_tool_calls_from_response", lambda value, url: kimi(url).get_tool_calls_from_response(value)),
    Entry("Kimi.structured_predict", lambda value, url: kimi(url).structured_predict(value, PROMPT, word="x")),
    Entry("Kimi.structured_predict, a prompt", lambda value, url: kimi(url).structured_predict(City, value, word="x")),
    Entry("Kimi.structured_predict, a value", lambda value, url: kimi(url).structured_predict(City, PROMPT, word=value)),
    Entry("Kimi.structured_predict, arguments", lambda value, url: kimi(url).structured_predict(City, PROMPT, llm_kwargs=value, word="x")),
    Entry("Kimi.stream_structured_predict", lambda value, url: _finish(kimi(url).stream_structured_predict(value, PROMPT, word="x"))),
    Entry("Kimi.as_structured_llm", lambda value, url: kimi(url).as_structured_llm(value).complete("Hi.")),
    Entry("llamaindex.with_kimi_practices", lambda value, url: llamaindex.with_kimi_practices(value)),
    *(Entry(f"llamaindex.with_kimi_practices({name}=)", lambda value, url, name=name: around(url, **{name: value}).chat(HELLO)) for name in ("model_name", "host", "practices")),
    Entry("a wrapped LLM, chat", lambda value, url: around(url).chat(value)),
    Entry("a wrapped LLM, complete", lambda value, url: around(url).complete(value)),
    *(Entry(f"a wrapped LLM.chat({name}=)", lambda value, url, name=name: around(url).chat(HELLO, **{name: value})) for name in ("thinking", "temperature", "max_tokens", "stop", "tools", "tool_choice", "extra_body", "practices")),
    *(Entry(f"RefraseStep({name}=)", lambda value, url, name=name: llamaindex.RefraseStep(**{name: value})(HELLO)) for name in ("model", "host", "tools", "practices")),
    Entry("RefraseStep", lambda value, url: llamaindex.RefraseStep()(value)),
    Entry("RefraseStep, one", lambda value, url: llamaindex.RefraseStep()([value])),
    Entry("RefraseStep.acall", lambda value, url: asyncio.run(llamaindex.RefraseStep().acall(value))),
    Entry("RefraseStep.add_to", lambda value, url: llamaindex.RefraseStep().add_to(value)),
    Entry("RefraseStep.add_to, an event", lambda value, url: llamaindex.RefraseStep().add_to(_workflow(), takes=value)),
    Entry("llamaindex.repair_messages", lambda value, url: llamaindex.memory.repair_messages(value)),
    Entry("llamaindex.repair_messages, one", lambda value, url: llamaindex.memory.repair_messages([value])),
    Entry("llamaindex.repair_messages, calls", lambda value, url: llamaindex.memory.repair_messages(_said("assistant", tool_calls=[{"id": value, "function": {"name": value, "arguments": value}}]))),
    Entry("repair_memory", lambda value, url: llamaindex.repair_memory(value)),
    Entry("arepair_memory", lambda value, url: asyncio.run(llamaindex.arepair_memory(value))),
    Entry("repair_memory, calls", lambda value, url: llamaindex.repair_memory(ChatMemoryBuffer.from_defaults(chat_history=_said("assistant", tool_calls=value)))),
    Entry("llamaindex.Refraser", lambda value, url: llamaindex.Refraser(value)),
    Entry("llamaindex.Refraser, a tool", lambda value, url: llamaindex.Refraser(kimi(url), tools=[value])),
    Entry("llamaindex.Refraser.rewrite", lambda value, url: llamaindex.Refraser(kimi(url)).rewrite(value)),
    Entry("llamaindex.formula_tools, one", lambda value, url: llamaindex.formula_tools([value], base_url=url, host="moonshot", api_key="sk-test", max_retries=0)),
    *(Entry(f"llamaindex.formula_tools({name}=)", lambda value, url, name=name: llamaindex.formula_tools(["date"], **{"base_url": url, "host": "moonshot", "api_key": "sk-test", "max_retries": 0, name: value})) for name in ("host", "base_url", "api_key", "timeout", "max_retries")),
]  # fmt: skip


def _workflow() -> Any:
    from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

    class Answering(Workflow):
        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    return Answering


# -- without a framework ---------------------------------------------------------------------------------

PLAIN: list[Entry] = [
    Entry("lint_prompt", lambda value, url: refrase.lint_prompt(value)),
    *(Entry(f"lint_prompt({name}=)", lambda value, url, name=name: refrase.lint_prompt("Say it.", **{name: value})) for name in ("tools", "thresholds")),
    Entry("compact_prompt", lambda value, url: refrase.compact_prompt(value)),
    Entry("needs_fresh_data", lambda value, url: refrase.needs_fresh_data(value)),
    Entry("needs_fresh_data, a time", lambda value, url: refrase.needs_fresh_data("Who won in 2031?", value)),
    Entry("lint_tools", lambda value, url: lint_tools(value)),
    Entry("lint_tools, one", lambda value, url: lint_tools([value])),
    Entry("lint_tools, a function", lambda value, url: lint_tools([{"type": "function", "function": value}])),
    Entry("lint_tools, a name", lambda value, url: lint_tools(_function(name=value))),
    Entry("lint_tools, parameters", lambda value, url: lint_tools(_function(parameters=value))),
    Entry("lint_tools, a property", lambda value, url: lint_tools(_function(parameters={"type": "object", "properties": {"a": value}}))),
    *(Entry(f"lint_tools({name}=)", lambda value, url, name=name: lint_tools(_function(), **{name: value})) for name in ("model", "host")),
    Entry("Practices.of", lambda value, url: refrase.Practices.of(value)),
    Entry("Practices.of, a mode", lambda value, url: refrase.Practices.of({"temperature": value})),
    *(Entry(f"Practices.of, {name}", lambda value, url, name=name: refrase.Practices.of({name: value})) for name in ("extra_calls", "tool_repair", "loop_limit", "prompt_thresholds", "forced_choice", "answer_tokens", "everything", "nope")),
    Entry("Practices.merged", lambda value, url: refrase.Practices.merged(value, value)),
    Entry("find_model", lambda value, url: catalogue.find_model(value)),
    Entry("find_host", lambda value, url: catalogue.find_host(value)),
    Entry("find_host, an address", lambda value, url: catalogue.find_host(None, value)),
    Entry("register_practice", lambda value, url: register_practice(value, after="temperature")),
    Entry("rewriting", lambda value, url: next(rewriting(value))),
    Entry("KimiSimulator", lambda value, url: KimiSimulator(value)),
    *(Entry(f"KimiSimulator({name}=)", lambda value, url, name=name: KimiSimulator(**{name: value})) for name in ("models", "script", "quirks", "api_key", "seed", "port", "after", "chunk_size", "keep")),
    Entry("KimiSimulator, a reply", lambda value, url: KimiSimulator(script=[value])),
    Entry("KimiSimulator, a quirk", lambda value, url: KimiSimulator(quirks={"leak_tool_calls": value})),
]  # fmt: skip

ENTRIES = [*LANGCHAIN, *LLAMAINDEX, *PLAIN]


# -- orders of messages, large texts, and what reaches the simulator -------------------------------------

KINDS: dict[str, Callable[[], Any]] = {
    "system": lambda: SystemMessage("x"),
    "user": lambda: HumanMessage("x"),
    "blank": lambda: HumanMessage(""),
    "assistant": lambda: AIMessage("x"),
    "call": lambda: _called({})[1],
    "result": lambda: ToolMessage("x", tool_call_id="1"),
    "another result": lambda: ToolMessage("x", tool_call_id="2"),
}

LARGE = "x" * 10_000_000
LARGE_ENTRIES: list[Entry] = [
    Entry("ChatKimi.invoke", lambda value, url: chat(url).invoke(value)),
    Entry("ChatKimi(api_key=)", lambda value, url: chat(url, api_key=value).invoke("Hi.")),
    Entry("ChatKimi(model=)", lambda value, url: chat(url, model=value).invoke("Hi.")),
    Entry("ChatKimi(host=)", lambda value, url: chat(url, host=value)),
    Entry("ChatKimi(base_url=)", lambda value, url: chat(url, base_url=value)),
    Entry("ChatKimi.bind_tools, a name", lambda value, url: chat(url).bind_tools(_function(name=value)).invoke("Hi.")),
    Entry("Kimi.chat", lambda value, url: kimi(url).chat([ChatMessage(role="user", content=value)])),
    Entry("RefraseNode.invoke", lambda value, url: langchain.RefraseNode().invoke([("system", value), ("user", "Hi.")])),
    Entry("needs_fresh_data", lambda value, url: refrase.needs_fresh_data(value)),
    Entry("Practices.of", lambda value, url: refrase.Practices.of({value: "off"})),
    Entry("lint_tools, a name", lambda value, url: lint_tools(_function(name=value))),
]  # fmt: skip

BODIES: list[bytes] = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b"5",
    b"{",
    b"{}",
    b"[" * 100_000,
    b'{"model": "kimi-k2.6"}',
    *(
        b'{"model": %s, "messages": %s, "tools": %s}' % each
        for each in (
            (b"5", b"[]", b"[]"),
            (b'"kimi-k2.6"', b"5", b"[]"),
            (b'"kimi-k2.6"', b"[5]", b"[]"),
            (b'"kimi-k2.6"', b'[{"role": 5}]', b"[]"),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": {"a": 5}}]', b"[]"),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": [5]}]', b"[]"),
            (b'"kimi-k2.6"', b'[{"role": "assistant", "tool_calls": 5}]', b"[]"),
            (b'"kimi-k2.6"', b'[{"role": "assistant", "tool_calls": [5]}]', b"[]"),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": "x"}]', b"5"),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": "x"}]', b"[5]"),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": "x"}]', b'[{"type": "function", "function": 5}]'),
            (b'"kimi-k2.6"', b'[{"role": "user", "content": NaN}]', b"[]"),
        )
    ),
]
"""Bodies of a request to the simulator that are none."""
