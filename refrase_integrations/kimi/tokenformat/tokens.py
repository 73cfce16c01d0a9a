"""Kimi's control tokens: the list, a check whether a text carries some, and a way to make them harmless."""

from __future__ import annotations

import re
from typing import Final

# K2, K2-Thinking, K2.5, K2.6. The singular spelling of the section tokens is no token of the vocabulary, but
# models write it and the reference parsers take it (vllm-project/vllm kimi_k2 tool parser,
# ggml-org/llama.cpp#17376).
_K2_SECTION = (
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_section_begin|>",
    "<|tool_call_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)
# K3 (vllm-project/vllm and sgl-project/sglang kimi_k3 tool parsers): every tag is made of the first three.
_K3_SECTION = ("<|open|>", "<|close|>", "<|sep|>")

TOOL_SECTION_TOKENS: Final[tuple[str, ...]] = _K2_SECTION + _K3_SECTION
"""Tokens that tool calls are made of, of every Kimi format."""

CONTROL_TOKENS: Final[tuple[str, ...]] = (
    *TOOL_SECTION_TOKENS,
    "<|end_of_msg|>",
    "<|im_end|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|media_begin|>",
    "<|media_content|>",
    "<|media_end|>",
    "<|media_pad|>",
    "<think>",
    "</think>",
    "[BOS]",
    "[EOS]",
    "[EOT]",
    "[UNK]",
    "[PAD]",
)
"""Every control token. Source: ``tokenizer_config.json`` of Kimi K2.5 (MoonshotAI/Kimi-Vendor-Verifier), and
for K3 the parsers named above."""


def contains_section_tokens(text: str, *, neutralised: bool = False) -> bool:
    """Return whether ``text`` carries a token that tool calls are made of.

    Args:
        text: any text.
        neutralised: count the form that `neutralise` gives them, too.
    """
    return "<" in text and (_ANY_SECTION if neutralised else _SECTION).search(text) is not None


def neutralise(text: str) -> str:
    """Return ``text`` with every control token made harmless: ``<|im_end|>`` becomes ``<~|im_end|>``.

    One visible ASCII character behind the bracket keeps a tokenizer from seeing the token and a model can
    still read and copy it. An invisible character would be stripped, and a look-alike normalised back, by
    gateways that clean Unicode; this survives them, and JSON escaping too.

    No function can be idempotent *and* exactly reversible for every text: with both,
    ``x == restore(neutralise(x)) == restore(neutralise(neutralise(x))) == neutralise(x)`` for all x. What is
    kept:

    - idempotent for every text, because a text without a control token is returned as it is (the same
      object);
    - `restore` is exact for every text that carries a control token, whatever else is in it: neutralised
      forms that stand beside one get one more ``~``, so that they come back as they were;
    - `restore` is exact for every text without control tokens and neutralised forms;
    - what is left: a text that carries neutralised forms and not one control token is indistinguishable from
      the result of an earlier call, is not changed, and loses one ``~`` per form in `restore`.
    """
    return _ANY.sub(r"\g<0>~", text) if ("<" in text or "[" in text) and _RAW.search(text) else text


def restore(text: str) -> str:
    """Return ``text`` with every neutralised control token put back; `neutralise` says how exact that is."""
    return _NEUTRAL.sub(_without_last, text) if "~" in text else text


class Restorer:
    """`restore` for text in chunks: the pieces returned, joined, are ``restore`` of the whole text."""

    def __init__(self) -> None:
        self._held: list[str] = []

    def feed(self, text: str) -> str:
        """Take a chunk and return what can be decided; the beginning of a possible form is held back."""
        if self._held:
            self._held.append(text)
            if not text.strip("~"):
                return ""  # a run of tildes that came one by one must not be joined each time
            text = "".join(self._held)
            self._held.clear()
        start = max(text.rfind("<"), text.rfind("["))
        if start >= 0 and _may_become_form(text[start:]):
            self._held.append(text[start:])
            text = text[:start]
        return restore(text)

    def close(self) -> str:
        """Return what was held back: no form came of it."""
        held = "".join(self._held)
        self._held.clear()
        return held


def _tokens(tokens: tuple[str, ...], tildes: str) -> re.Pattern[str]:
    """Match the bracket and the tildes of each token; the rest of it is looked at, not matched."""
    tails = {bracket: [re.escape(token[1:]) for token in tokens if token[0] == bracket] for bracket in "<["}
    return re.compile(
        "|".join(f"{re.escape(bracket)}{tildes}(?={'|'.join(rest)})" for bracket, rest in tails.items() if rest)
    )


def _without_last(match: re.Match[str]) -> str:
    return match[0][:-1]


def _may_become_form(tail: str) -> bool:
    """Return whether ``tail``, which starts with the last bracket, may yet become a neutralised token."""
    return len(tail) == 1 or (tail[1] == "~" and tail[0] + tail[1:].lstrip("~") in _PREFIXES)


_RAW = _tokens(CONTROL_TOKENS, "")
_ANY = _tokens(CONTROL_TOKENS, "~*+")
_NEUTRAL = _tokens(CONTROL_TOKENS, "~++")
_SECTION = _tokens(TOOL_SECTION_TOKENS, "")
_ANY_SECTION = _tokens(TOOL_SECTION_TOKENS, "~*+")
_PREFIXES = frozenset(token[:end] for token in CONTROL_TOKENS for end in range(1, len(token)))
