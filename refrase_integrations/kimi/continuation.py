"""The rest of a reply: of one that was cut at the output limit, and of a stream that broke.

Moonshot's partial mode goes on with the beginning of a reply and sends only what follows, so the steps that heal it see
one text without a seam, whatever it was cut in: a word, a code fence, a JSON string. What was received counts as the
beginning, handed out or not; tool calls are handed out whole at the end, so calls that had begun are left out and
written anew.
"""

from __future__ import annotations

from dataclasses import replace

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.followups import reply_message
from refrase_integrations.kimi.messages import text_of, with_fields
from refrase_integrations.kimi.practice import Practice, Prepared, Reference, messages_of
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.stream import Received
from refrase_integrations.kimi.tokenformat import neutralise
from refrase_integrations.kimi.wire import Message, put, without

_GUIDE = Reference("platform.kimi.ai/docs/guide/use-partial-mode-feature-of-kimi-api", "2026-08-13")

BROKEN = Practice(
    id="broken-streams",
    statement="Takes a stream that broke up again where it ended; starts over where nothing was handed out.",
    sources=(_GUIDE,),
)
"""Not a setting (``max_retries`` is); its line in the report says what became of a stream that broke."""
CUT = Practice(
    id="continue-on-length",
    statement="Carries a reply on that was cut at the output limit, as often as continue_on_length says.",
    sources=(_GUIDE,),
)
"""Not a setting (``continue_on_length`` is); see `BROKEN`."""


def rest_of(prepared: Prepared, received: Received, resumed: int = 0) -> Prepared | str:
    """Return the request for the rest of a reply, or why there is none.

    Args:
        prepared: the request that the reply answers. The rest's report is part of its report.
        received: what came of the reply.
        resumed: how often streams of this call were taken up again.
    """
    call, dialect = prepared.call, prepared.call.dialect
    wanted = prepared.body.get("response_format")
    if not dialect.partial:
        return f"host {dialect.host.id} has no partial mode"
    if (call.body.get("n") or 1) > 1:
        return "it is one of several choices"
    if not received.content and not received.calling:
        return "it was still reasoning" if received.reasoning else "there is no text to go on with"
    if any(neutralise(text) is not text for text in (received.content, received.reasoning or "")):
        return "it holds control tokens, which no message may carry"
    if isinstance(wanted, dict) and wanted.get("type") == "json_object":
        return "JSON mode does not go together with partial mode"
    messages = messages_of(call.body)
    begun: Message = with_fields(reply_message(received.content, received.reasoning), partial=True)
    if messages and messages[-1].get("partial"):  # the user's own prefix: the reply goes on with it, and so does this
        own = messages[-1]
        begun = with_fields(own, content=text_of(own.get("content")) + received.content)
        messages = messages[:-1]
    body = put(call.body, messages=[*messages, begun])
    try:
        again = prepare(replace(call, body=body, resumed=resumed))
    except PracticeError as error:
        return f"with what came so far {error.practice} refuses it"
    prepared.report.changes += [line for line in again.report.changes if line not in prepared.report.changes]
    # A schema that the host enforces would be begun anew; what is joined is checked against it as always.
    return Prepared(again.call, without(again.body, "response_format"), prepared.report)
