"""What a model's host would refuse in a list of tools, before a request is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from refrase_integrations.kimi import catalogue
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.schema import SERVED, ToolFinding
from refrase_integrations.kimi.schema import lint_tools as _lint

__all__ = ["ToolFinding", "lint_tools"]


def lint_tools(
    tools: Iterable[Mapping[str, Any]], model: str | None = None, host: str | None = None
) -> tuple[ToolFinding, ...]:
    """Check tools by the rules of one model on one host.

    Most of what is found is mended by the practices on the way out (`ToolFinding.fix` says how); the rest has to be
    corrected where the tools are written.

    ```python
    from refrase_integrations import lint_tools

    for finding in lint_tools(tools, host="moonshot"):
        print(finding.tool, finding.path, finding.message, finding.fix)
    ```

    Args:
        tools: the ``tools`` of a request, in OpenAI form. Builtin functions (``$web_search``) are passed over.
        model: the model, in any host's spelling; None: the catalogue's default.
        host: id of the host; None: Moonshot's international API.

    Returns:
        The findings, tool by tool, with the tool's name, the path in its parameters, what is wrong and the fix. Name
        pattern, limit and schema flavour are the host's (``refrase_integrations/kimi/catalogue/hosts``, with sources).

    Raises:
        CatalogueError: the host is unknown.
        ConfigurationError: one of the tools is no object.
    """
    name = catalogue.DEFAULT_MODEL if model is None else model
    dialect = compile_dialect(find_model(name), find_host(host), name=name)
    return _lint(tools, pattern=dialect.tool_name, limit=dialect.tool_limit, flavour=dialect.schema, limits=SERVED)
