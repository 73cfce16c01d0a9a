"""What the tests of every surface share: the four ways of a call, and the bodies that reached the host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from langchain_core.messages import AIMessage, AIMessageChunk

from refrase_integrations.client.connection import connect
from refrase_integrations.client.sdk import send
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call, Delta
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.turn import run
from refrase_integrations.kimi.wire import Body
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply

MODES = ("invoke", "ainvoke", "stream", "astream")
DATA = Path(__file__).parents[2] / "shared" / "data"
OPENAPI = DATA / "moonshot-openapi.json"


async def ask(mode: str, runnable: Any, messages: Any, **kwargs: Any) -> AIMessage:
    """Call a chat model (or a binding of one) in one of the four modes, and return the whole message."""
    if mode == "invoke":
        return runnable.invoke(messages, **kwargs)
    if mode == "ainvoke":
        return await runnable.ainvoke(messages, **kwargs)
    whole: AIMessageChunk | None = None
    if mode == "stream":
        for chunk in runnable.stream(messages, **kwargs):
            whole = chunk if whole is None else whole + chunk
    else:
        async for chunk in runnable.astream(messages, **kwargs):
            whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


async def exchange(
    mode: str,
    messages: Any,
    *,
    persona: str = "moonshot",
    tools: Sequence[Any] = (),
    script: Sequence[Reply | str] | None = ("Yes.",),
    strict: bool = True,
    bind: dict[str, Any] | None = None,
    **fields: Any,
) -> tuple[AIMessage, list[dict[str, Any]]]:
    """Let a fresh `ChatKimi` talk to a fresh simulator; return its reply and every body that reached the host."""
    with KimiSimulator(persona, script=script, strict=strict) as simulator:
        model: Any = ChatKimi(**{"host": persona, "base_url": simulator.base_url, "api_key": "sk-test", **fields})
        if tools:
            model = model.bind_tools(tools, **(bind or {}))
        elif bind:
            model = model.bind(**bind)
        reply = await ask(mode, model, messages)
        return reply, [chat.body for chat in simulator.requests if chat.path.endswith("/chat/completions")]


async def sent(mode: str, messages: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the body of the one request of an exchange, less what only a stream carries."""
    _, bodies = await exchange(mode, messages, **kwargs)
    assert len(bodies) == 1
    body = dict(bodies[0])
    assert body.pop("stream", False) is (mode in ("stream", "astream"))
    body.pop("stream_options", None)
    return body


def run_body(simulator: KimiSimulator, body: dict[str, Any], **practices: Any) -> Delta:
    """Let a body as somebody wrote it by hand go through the practices and over HTTP; return the whole reply."""
    host = find_host(simulator.host.persona.id)
    dialect = compile_dialect(find_model(body["model"]), host, name=body["model"])
    call = Call(body=cast(Body, body), dialect=dialect, practices=Practices.of(practices), count=estimate)
    connection = connect(host.id, simulator.base_url, "sk-test")
    (reply,) = fold(run(call, lambda prepared: send(prepared, connection)))
    return reply


def violations_of_openapi(body: dict[str, Any]) -> list[str]:
    """Judge a body by Moonshot's own OpenAPI document. Its Message schema knows no tool messages and no assistant
    message without content: those are left to the simulator's rules."""
    document = json.loads(OPENAPI.read_text("utf-8"))
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        for part in schema.get("allOf", [schema]):
            enum = part.get("properties", {}).get("model", {}).get("enum", ())
            if body.get("model") in enum:
                known = [
                    {key: value for key, value in message.items() if key not in ("tool_calls", "reasoning_content")}
                    for message in body["messages"]
                    if message["role"] != "tool" and "content" in message
                ]
                validator = Draft202012Validator({**schema, "components": document["components"]})
                return [error.message for error in validator.iter_errors({**body, "messages": known})]
    raise AssertionError(f"no schema for the model {body.get('model')}")
