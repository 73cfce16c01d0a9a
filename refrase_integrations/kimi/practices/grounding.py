"""grounding: a source, or "not sure", on specific facts."""

from __future__ import annotations

from refrase_integrations.kimi.lines import in_chinese, own_line, put_line
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, unchanged
from refrase_integrations.kimi.wire import Body

MARKER = "Sourcing rule:"
LINE = f"{MARKER} for each specific fact (name, number, date, quote) give your source, or say that you are not sure."
LINE_ZH = f"{MARKER} 每个具体事实（名称、数字、日期、引文）都要给出来源，否则说明你不确定。"
_OURS = own_line(MARKER, LINE, LINE_ZH)


def apply(body: Body, call: Call) -> Edit:
    """Put the line into the system prompt."""
    edited = put_line(body, _OURS, LINE_ZH if in_chinese(body) else LINE)
    return unchanged(body) if edited is body else Edit(edited, [Change("add", "a line that asks for sources")])


PRACTICE = Practice(
    id="grounding",
    statement='Asks for a source or "not sure" on specific facts: 2-5% of them are documented as made up.',
    sources=(Reference("refrase.cc/models/kimi-k2 (Skywork.ai analysis)", "2026-11-23", "C"),),
    default="off",
    scope="messages",
    apply=apply,
)
