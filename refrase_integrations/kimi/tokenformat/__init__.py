"""The model's own text format: tool calls, reasoning and control tokens as Kimi writes them.

Servers turn this text into structured replies; where they fail, it leaks into ``content``. The parsers here
read it back incrementally and lose no character; what a caller does with a section that was found is the
caller's decision.
"""

from refrase_integrations.kimi.tokenformat.events import Event, NativeCall, Reasoning, Section, Tag, Text
from refrase_integrations.kimi.tokenformat.k2 import K2Parser, native_id, split_native_id, write_section
from refrase_integrations.kimi.tokenformat.k3 import K3Parser
from refrase_integrations.kimi.tokenformat.markers import HOLD_LIMIT, may_hold_markup
from refrase_integrations.kimi.tokenformat.think import ThinkSplitter
from refrase_integrations.kimi.tokenformat.tokens import (
    CONTROL_TOKENS,
    TOOL_SECTION_TOKENS,
    Restorer,
    contains_section_tokens,
    neutralise,
    restore,
)

__all__ = [
    "CONTROL_TOKENS",
    "HOLD_LIMIT",
    "TOOL_SECTION_TOKENS",
    "Event",
    "K2Parser",
    "K3Parser",
    "NativeCall",
    "Reasoning",
    "Restorer",
    "Section",
    "Tag",
    "Text",
    "ThinkSplitter",
    "contains_section_tokens",
    "may_hold_markup",
    "native_id",
    "neutralise",
    "restore",
    "split_native_id",
    "write_section",
]
