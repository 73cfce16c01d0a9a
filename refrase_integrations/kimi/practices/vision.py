"""vision: images and video that the model cannot see, or the host cannot fetch, are an error before any request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refrase_integrations.errors import VisionUnsupported
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.messages import map_messages, with_fields
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.wire import Body, Message

_KINDS = {
    **dict.fromkeys(("image_url", "image", "input_image"), "image"),
    **dict.fromkeys(("video_url", "video"), "video"),
}


def apply(body: Body, call: Call) -> Edit:
    """Find what cannot be shown; where the practice is set to apply, a placeholder takes its place."""
    found: dict[tuple[str, str], list[int]] = {}  # by kind and reason: the message of each

    def shown(message: Message) -> Message:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        parts = []
        for part in content:
            kind = _KINDS.get(str(part.get("type"))) if isinstance(part, Mapping) else None
            reason = _obstacle(kind, part, call.dialect) if kind else None
            if kind and reason:
                found.setdefault((kind, reason), []).append(_place(message, call))
                part = {"type": "text", "text": f"[{kind} left out: {reason}]"}
            parts.append(part)
        same = all(new is old for new, old in zip(parts, content, strict=True))
        return message if same else with_fields(message, content=parts)

    edited = map_messages(body, shown)
    if not found:
        return unchanged(body)
    return Edit(edited, [Change("drop", _told(*what, where, call.dialect)) for what, where in found.items()])


def _place(message: Message, call: Call) -> int:
    """Return the number of a message as the user counts."""
    return next((place for place, given in enumerate(messages_of(call.body)) if given is message), 0)


_TEXT_ONLY, _NO_VIDEO, _ADDRESS = (
    "this model reads text only",
    "this model sees no video",
    "this host does not fetch addresses",
)


def _obstacle(kind: str, part: Mapping[str, Any], dialect: Dialect) -> str | None:
    """Return why the part cannot be shown."""
    if not dialect.vision:
        return _TEXT_ONLY
    if kind == "video" and not dialect.video:
        return _NO_VIDEO
    target = part.get(str(part["type"]))
    address = target.get("url") if isinstance(target, Mapping) else target
    if dialect.media and isinstance(address, str) and not address.startswith(dialect.media):
        return _ADDRESS
    return None


def _told(kind: str, reason: str, places: list[int], dialect: Dialect) -> str:
    where = f"messages[{', '.join(map(str, dict.fromkeys(places)))}]"
    if reason == _ADDRESS:
        taken = " or ".join(dialect.media)
        return f"{len(places)} {kind}(s) by address in {where}: {reason}; give the data itself or a file ({taken})"
    return f"{len(places)} {kind}(s) in {where}: {reason}; these see: {_seeing(kind, dialect)}"


def _seeing(kind: str, dialect: Dialect) -> str:
    """Name the models that see: those that this host serves, else all."""
    from refrase_integrations.kimi.catalogue import models

    seeing = [model for model in models() if getattr(model.modalities, kind)]
    served = [model.hosts.get(dialect.host.id) for model in seeing]
    here = [entry.names[0] for entry in served if entry is not None and entry.status == "live" and entry.names]
    return ", ".join(here or [model.identity.weights or model.id for model in seeing])


PRACTICE = Practice(
    id="vision",
    statement="Refuses images and video that the model cannot see or the host cannot fetch, before any request.",
    sources=(Reference("platform.kimi.ai/docs/guide/use-kimi-vision-model", "2026-08-13", "B"),),
    default="error",
    error=VisionUnsupported,
    apply=apply,
)
