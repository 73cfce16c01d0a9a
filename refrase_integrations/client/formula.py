"""Moonshot's Formula tools: their declarations and their runs, over HTTP.

Source: platform.kimi.ai/docs/guide/use-official-tools (kimi/catalogue/formulas.toml).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from refrase_integrations.client.connection import Connection, connect
from refrase_integrations.client.deadline import Deadline
from refrase_integrations.client.failures import answered, typed
from refrase_integrations.client.retries import aattempts, attempts
from refrase_integrations.client.sdk import written
from refrase_integrations.errors import (
    ConfigurationError,
    FormulaFailed,
    FormulaNotFound,
    HostError,
    ModelNotFound,
    WrongEndpoint,
)
from refrase_integrations.kimi.catalogue import hosts
from refrase_integrations.kimi.catalogue.formulas import formulas
from refrase_integrations.kimi.inputs import instance, items, json_text, shown, whole
from refrase_integrations.kimi.wire import Body

_URI = re.compile(r"(?:([\w-]+)/)?([\w-]+)(?::([\w.-]+))?", re.ASCII)
_NOTHING = "The tool gave no output."
_LONGEST = 400  # characters of a failure that an error shows


class Platform(TypedDict, total=False):
    """Where the tools run; what is left out is as in `ChatKimi`."""

    host: str | None
    """``"moonshot"`` (as None) or ``"moonshot-cn"``."""
    base_url: str | None
    """The endpoint; None: the host's own."""
    api_key: str | None
    """The key; None: the host's own environment variable."""
    timeout: float | None
    """Seconds for one request; None: 600."""
    max_retries: int
    """Tries after the first one, for what may pass (overload, rate limit, connection): 2."""


@dataclass(frozen=True)
class FormulaTool:
    """One function of a formula, as its platform declares it."""

    uri: str
    """Of the formula, such as ``"moonshot/web-search:latest"``."""
    name: str
    """As a model calls it."""
    function: str
    """As the platform calls it: of a plugin's function the dotted name, which no model may use."""
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments."""
    live: bool
    """Its answers change with the world."""


@dataclass(frozen=True, eq=False)
class Formulas:
    """The Formula tools of one connection.

    Args:
        connection: where to, with which key.
        max_retries: tries after the first one, for what may pass (overload, rate limit, connection).

    Raises:
        ConfigurationError: the host has no Formula tools.
    """

    connection: Connection = field(repr=False)
    max_retries: int = 2

    def __post_init__(self) -> None:
        host = self.connection.host
        if not host.features.formula:
            having = ", ".join(repr(other.id) for other in hosts() if other.features.formula)
            raise ConfigurationError(f"host {host.id!r} has no Formula tools; these have: {having}")

    @classmethod
    def of(cls, **platform: Unpack[Platform]) -> Formulas:
        """Return the Formula tools of a platform.

        Raises:
            ConfigurationError: it has none, there is no key, or an argument is unknown.
        """
        if unknown := platform.keys() - Platform.__annotations__.keys():
            known = ", ".join(Platform.__annotations__)
            raise ConfigurationError(f"unknown argument(s) {', '.join(sorted(unknown))}; these are known: {known}")
        connection = connect(
            platform.get("host"), platform.get("base_url"), platform.get("api_key"), timeout=platform.get("timeout")
        )
        return cls(connection, whole(platform.get("max_retries", 2), "max_retries", 0))

    def tools(self, names: Iterable[str] | None = None) -> list[FormulaTool]:
        """Return the tools of formulas, as their platform declares them now.

        Args:
            names: formulas: ``"web-search"``, or in full ``"moonshot/web-search:latest"``. None: the documented ones
                that bring live data.

        Raises:
            ConfigurationError: a name is none, or two tools have the same name.
            FormulaNotFound: there is no such formula.
            HostError: the platform refused or failed.
        """
        return _distinct([tool for uri in _uris(names) for tool in _declared(uri, self._get(uri))])

    async def atools(self, names: Iterable[str] | None = None) -> list[FormulaTool]:
        """The async twin of `tools`; the formulas are asked for side by side."""
        uris = _uris(names)
        answers = await asyncio.gather(*(self._aget(uri) for uri in uris))
        return _distinct([tool for uri, answer in zip(uris, answers, strict=True) for tool in _declared(uri, answer)])

    def run(self, tool: FormulaTool, arguments: Mapping[str, Any]) -> str:
        """Run a tool and return what it gives, for the model.

        What Moonshot returns encrypted (web search) only models on its own platform can read: it has to go into the
        conversation as it is. A run that failed in a way that may pass is tried again, also if it had begun.

        Raises:
            FormulaFailed: the tool itself failed; its words, for the model, are in the error's ``seen``.
            InvalidMessage: the arguments cannot be written as JSON.
            HostError: the platform refused or failed.
        """
        return _output(tool, self._sync(f"{_path(tool.uri)}/fibers", tool.uri, _fiber(tool, arguments)))

    async def arun(self, tool: FormulaTool, arguments: Mapping[str, Any]) -> str:
        """The async twin of `run`."""
        return _output(tool, await self._async(f"{_path(tool.uri)}/fibers", tool.uri, _fiber(tool, arguments)))

    def _get(self, uri: str) -> Mapping[str, Any]:
        return self._sync(f"{_path(uri)}/tools", uri, None)

    async def _aget(self, uri: str) -> Mapping[str, Any]:
        return await self._async(f"{_path(uri)}/tools", uri, None)

    def _sync(self, path: str, uri: str, fiber: dict[str, Any] | None) -> Mapping[str, Any]:
        content = written(fiber) if fiber is not None else None

        def once() -> Mapping[str, Any]:
            client = self.connection.client()
            try:
                if content is None:
                    return self._read(client.get(path, cast_to=object, options=self._options()))
                return self._read(client.post(path, cast_to=object, content=content, options=self._options()))
            except Exception as error:  # noqa: BLE001 - every failure of the SDK is turned into a typed one
                failure = self._known(error, uri, fiber)
            raise failure

        found: Mapping[str, Any] = attempts(self.max_retries, [], Deadline())(once)
        return found

    async def _async(self, path: str, uri: str, fiber: dict[str, Any] | None) -> Mapping[str, Any]:
        content = written(fiber) if fiber is not None else None

        async def once() -> Mapping[str, Any]:
            client = self.connection.async_client()
            try:
                if content is None:
                    return self._read(await client.get(path, cast_to=object, options=self._options()))
                return self._read(await client.post(path, cast_to=object, content=content, options=self._options()))
            except Exception as error:  # noqa: BLE001
                failure = self._known(error, uri, fiber)
            raise failure

        found: Mapping[str, Any] = await aattempts(self.max_retries, [], Deadline())(once)
        return found

    def _options(self) -> Any:
        return {} if self.connection.timeout is None else {"timeout": self.connection.timeout}

    def _read(self, answer: object) -> Mapping[str, Any]:
        if not isinstance(answer, Mapping):
            raise answered(404, answer, {}, None, self.connection)
        return answer

    def _known(self, error: Exception, uri: str, fiber: dict[str, Any] | None) -> Exception:
        """Return the typed form of what the SDK raised; it holds neither the key nor the arguments."""
        import openai

        said: Body = {"messages": [{"content": fiber["arguments"]}]} if fiber is not None else {}
        if isinstance(error, HostError):
            known: Exception = error.with_traceback(None)
        elif isinstance(error, openai.OpenAIError):
            known = typed(error, said, None, self.connection)
        elif isinstance(error, (ValueError, RecursionError)):
            known = answered(None, {"message": "the host sent what is no JSON"}, said, None, self.connection)
        else:
            return error
        if isinstance(known, (ModelNotFound, WrongEndpoint)) and known.status == 404:
            return FormulaNotFound(
                f"there is no formula {uri!r}",
                status=404,
                type=known.type,
                host=known.host,
                request_id=known.request_id,
            )
        return known


def _uris(names: Iterable[str] | None) -> list[str]:
    facts = formulas()
    uris = []
    for name in facts.live if names is None else items(names, "formulas", "a list of names, such as ['web-search']"):
        found = _URI.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            raise ConfigurationError(
                f"{shown(name)} is no formula; write its name ('web-search') or in full 'moonshot/web-search:latest'"
            )
        uris.append(f"{found[1] or facts.namespace}/{found[2]}:{found[3] or facts.tag}")
    return list(dict.fromkeys(uris))


def _path(uri: str) -> str:
    return f"/formulas/{uri}"


def _declared(uri: str, answer: Mapping[str, Any]) -> list[FormulaTool]:
    facts = formulas()
    own = uri.startswith(f"{facts.namespace}/")
    live = own and uri.partition("/")[2].partition(":")[0] in facts.live
    tools: list[FormulaTool] = []
    for entry in answer.get("tools") or ():
        entry = entry if isinstance(entry, Mapping) else {}
        plugin = entry.get("_plugin")
        if isinstance(plugin, Mapping):  # several functions at once (excel), called by a dotted name
            for function in plugin.get("functions") or ():
                described = {"description": plugin.get("description"), **function}
                tools.append(_tool(uri, described, live, str(plugin.get("name") or "")))
        else:
            tools.append(_tool(uri, entry.get("function") or entry, live))
    if not tools or not all(tool.name for tool in tools):
        raise FormulaNotFound(f"the formula {uri!r} declares no tool")
    return tools


def _tool(uri: str, function: Mapping[str, Any], live: bool, plugin: str = "") -> FormulaTool:
    name, parameters = str(function.get("name") or ""), function.get("parameters")
    return FormulaTool(
        uri=uri,
        name=f"{plugin}_{name}" if plugin else name,
        function=f"{plugin}.{name}" if plugin else name,
        description=str(function.get("description") or ""),
        parameters=dict(parameters) if isinstance(parameters, Mapping) else {"type": "object", "properties": {}},
        live=live,
    )


def _distinct(tools: list[FormulaTool]) -> list[FormulaTool]:
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            uris = " and ".join(tool.uri for tool in tools if tool.name == name)
            raise ConfigurationError(f"{uris} both declare a tool {name!r}: take one of them")
    return tools


def _fiber(tool: FormulaTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    instance(arguments, Mapping, f"the arguments of {tool.name}", "an object")
    return {"name": tool.function, "arguments": json_text(arguments, f"the arguments of {tool.name}")}


def _output(tool: FormulaTool, fiber: Mapping[str, Any]) -> str:
    context = fiber.get("context")
    context = context if isinstance(context, Mapping) else {}
    if fiber.get("status") == "succeeded":
        given = next((context[key] for key in ("output", "encrypted_output") if context.get(key) not in (None, "")), "")
        return (given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)) or _NOTHING
    said = fiber.get("error") or context.get("error") or context.get("output") or "no reason was given"
    seen = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    raise FormulaFailed(tool.name, f"{tool.name} failed: {seen[:_LONGEST]}")
