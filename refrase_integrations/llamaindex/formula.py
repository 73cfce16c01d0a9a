"""Moonshot's Formula tools as LlamaIndex tools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Unpack

from llama_index.core.tools import FunctionTool, ToolMetadata

from refrase_integrations.client.formula import Formulas, FormulaTool, Platform
from refrase_integrations.errors import FormulaFailed


def formula_tools(formulas: Iterable[str] | None = None, **platform: Unpack[Platform]) -> list[FunctionTool]:
    """Return Formula tools, which Moonshot runs on its own platform: web search, fetch, date ...

    ```python
    from llama_index.core.agent.workflow import FunctionAgent
    from refrase_integrations.llamaindex import Kimi, formula_tools

    agent = FunctionAgent(llm=Kimi(), tools=formula_tools(["date"]))
    ```

    They are declared as the platform declares them at the time of the call, sync and async, and marked as live where
    they are. A tool that fails tells the model why. What web search finds comes encrypted: only models on Moonshot's
    own platform can read it. Moonshot charges for web search (platform.kimi.ai/docs/pricing/tools).

    Args:
        formulas: their names: ``"web-search"``, or in full ``"moonshot/web-search:latest"``. None: the documented ones
            that bring live data.
        platform: ``host`` ("moonshot" or "moonshot-cn"), ``base_url``, ``api_key``, ``timeout`` (seconds for one
            request) and ``max_retries``, as in `Kimi`.

    Raises:
        ConfigurationError: the host has no Formula tools, a name is none, or there is no key.
        FormulaNotFound: there is no such formula.
        HostError: the platform refused or failed.
    """
    found = Formulas.of(**platform)
    del platform  # the key is among them: what records a traceback's variables must not find it
    return [_formed(found, tool) for tool in found.tools(formulas)]


async def aformula_tools(formulas: Iterable[str] | None = None, **platform: Unpack[Platform]) -> list[FunctionTool]:
    """The async twin of `formula_tools`; see there. The tools are the same."""
    found = Formulas.of(**platform)
    del platform
    return [_formed(found, tool) for tool in await found.atools(formulas)]


class _Formula(FunctionTool):
    """A tool of Moonshot's platform."""

    live = False
    """Read by `marked_live`."""


@dataclass
class _Declared(ToolMetadata):
    """Metadata with the JSON schema as it was declared; LlamaIndex's own is made of a pydantic class."""

    parameters: dict[str, Any] = field(default_factory=dict)

    def get_parameters_dict(self) -> dict[str, Any]:
        return self.parameters


def _formed(formulas: Formulas, tool: FormulaTool) -> FunctionTool:
    def run(**arguments: Any) -> str:
        try:
            return formulas.run(tool, arguments)
        except FormulaFailed as failed:  # an agent hands the model the words of what is raised
            raise ValueError(failed.seen) from None

    async def arun(**arguments: Any) -> str:
        try:
            return await formulas.arun(tool, arguments)
        except FormulaFailed as failed:
            raise ValueError(failed.seen) from None

    metadata = _Declared(name=tool.name, description=tool.description or tool.uri, parameters=tool.parameters)
    formed = _Formula(fn=run, async_fn=arun, metadata=metadata)
    formed.live = tool.live
    return formed
