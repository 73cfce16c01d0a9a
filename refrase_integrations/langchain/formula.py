"""Moonshot's Formula tools as LangChain tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from refrase_integrations.client.connection import connect
from refrase_integrations.client.formula import Formulas, FormulaTool
from refrase_integrations.errors import FormulaFailed


def formula_tools(
    formulas: Iterable[str] | None = None,
    *,
    host: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    max_retries: int = 2,
) -> list[BaseTool]:
    """Return Formula tools, which Moonshot runs on its own platform: web search, fetch, date ...

    ```python
    from langchain.agents import create_agent
    from refrase_integrations.langchain import ChatKimi, formula_tools

    agent = create_agent(ChatKimi(), tools=formula_tools(["date"]))
    ```

    They are declared as the platform declares them at the time of the call, sync and async, and marked as live where
    they are. A tool that fails tells the model why. What web search finds comes encrypted: only models on Moonshot's
    own platform can read it. Moonshot charges for web search (platform.kimi.ai/docs/pricing/tools).

    Args:
        formulas: their names: ``"web-search"``, or in full ``"moonshot/web-search:latest"``. None: the documented ones
            that bring live data.
        host: ``"moonshot"`` (as None) or ``"moonshot-cn"``.
        base_url: the endpoint. None: the host's own.
        api_key: the key. None: the host's own environment variable.
        timeout: seconds for one run. Default 600.
        max_retries: tries after the first one, for what may pass (overload, rate limit, connection).

    Raises:
        ConfigurationError: the host has no Formula tools, a name is none, or there is no key.
        FormulaNotFound: there is no such formula.
        HostError: the platform refused or failed.
    """
    found = Formulas(connect(host, base_url, api_key, timeout=timeout), max_retries)
    return [_formed(found, tool) for tool in found.tools(formulas)]


async def aformula_tools(
    formulas: Iterable[str] | None = None,
    *,
    host: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - of each request; the SDK keeps it
    max_retries: int = 2,
) -> list[BaseTool]:
    """The async twin of `formula_tools`; see there. The tools are the same."""
    found = Formulas(connect(host, base_url, api_key, timeout=timeout), max_retries)
    return [_formed(found, tool) for tool in await found.atools(formulas)]


def _formed(formulas: Formulas, tool: FormulaTool) -> BaseTool:
    def run(**arguments: Any) -> str:
        try:
            return formulas.run(tool, arguments)
        except FormulaFailed as failed:
            raise ToolException(failed.seen) from None

    async def arun(**arguments: Any) -> str:
        try:
            return await formulas.arun(tool, arguments)
        except FormulaFailed as failed:
            raise ToolException(failed.seen) from None

    return StructuredTool(
        name=tool.name,
        description=tool.description or tool.uri,
        args_schema=tool.parameters,
        func=run,
        coroutine=arun,
        handle_tool_error=True,
        metadata={"formula": tool.uri, "live": tool.live},
    )
