"""Moonshot's Formula tools as LangChain tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from refrase_integrations.client.formula import Formulas, FormulaTool, Platform
from refrase_integrations.errors import FormulaFailed


def formula_tools(formulas: Iterable[str] | None = None, **platform: Unpack[Platform]) -> list[BaseTool]:
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
        platform: ``host`` ("moonshot" or "moonshot-cn"), ``base_url``, ``api_key``, ``timeout`` (seconds for one
            request) and ``max_retries``, as in `ChatKimi`.

    Raises:
        ConfigurationError: the host has no Formula tools, a name is none, or there is no key.
        FormulaNotFound: there is no such formula.
        HostError: the platform refused or failed.
    """
    found = Formulas.of(**platform)
    del platform  # the key is among them: what records a traceback's variables must not find it
    return [_formed(found, tool) for tool in found.tools(formulas)]


async def aformula_tools(formulas: Iterable[str] | None = None, **platform: Unpack[Platform]) -> list[BaseTool]:
    """The async twin of `formula_tools`; see there. The tools are the same."""
    found = Formulas.of(**platform)
    del platform
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
