"""Token counts of a text and of a whole request: exact where Kimi's vocabulary is at hand, else a close estimate.

Every Kimi K2 model and Kimi K3 share one vocabulary of 163,584 tokens (``tiktoken.model`` of the open weights). The
files are not part of this package: `exact` finds a copy on this machine, `estimate` needs none.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from refrase_integrations.errors import ConfigurationError, MissingExtra
from refrase_integrations.kimi.memo import Memo, digest
from refrase_integrations.kimi.messages import REASONING_KEYS, text_of
from refrase_integrations.kimi.wire import Message, Tool

if TYPE_CHECKING:
    import tiktoken

Format = Literal["k2", "k25"]
"""How a chat template writes a request. ``k2`` (K2-Instruct, K2-Thinking): tools as compact JSON, the default system
prompt where there is none. ``k25`` (K2.5, K2.6, K2.7): tools as TypeScript, a thinking block in every assistant turn.
Source: ``chat_template.jinja`` of moonshotai/Kimi-K2-Thinking and Kimi-K2.5."""


class TokenCounter(Protocol):
    """What counts tokens."""

    @property
    def exact(self) -> bool:
        """Texts are counted with Kimi's vocabulary. Images and videos are estimated by every counter."""

    @property
    def margin(self) -> float:
        """How far off a count may be, relative to it: 0.15 is 15%; 0 where it is exact."""

    def text(self, text: str) -> int:
        """Return the tokens of a text; control tokens in it count as the ordinary text that they are."""

    def request(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        format: Format = "k2",
        keep_reasoning: bool = True,
    ) -> int:
        """Return the tokens of a prompt as the chat template writes it, up to where the reply begins."""


class _Templated:
    """The part that every counter shares: remembered counts, and the template around a request's texts."""

    exact: bool
    margin: float

    def __init__(self) -> None:
        self._counts: Memo[int] = Memo(_REMEMBERED)

    def text(self, text: str) -> int:
        """Return the tokens of ``text``. Remembered by content: a thread's messages come back every turn.

        Control tokens in it, such as ``<|im_end|>``, count as the ordinary text that they are.
        """
        return self._counts(digest(text), lambda: self._count(text)) if text else 0

    def request(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        format: Format = "k2",
        keep_reasoning: bool = True,
    ) -> int:
        """Return the tokens of a prompt as the chat template writes it, up to where the reply begins.

        Args:
            messages: in wire form. An image counts by its size where that can be read (PNG and JPEG in a data URL),
                else 1,024 tokens; so does a video, whose length is not known.
            tools: the ``tools`` parameter, in wire form.
            format: which template; Kimi K3 has another one, for which ``k25`` is near.
            keep_reasoning: every message's reasoning is in the prompt (``thinking.keep: "all"``; K2.7 and later do
                it always). False: only that of the current turn, behind the last answer without tool calls.
        """
        open_turn = 0 if keep_reasoning else _current_turn(messages)
        total = self._declared(tools, format) if tools else 0
        if format == "k2" and (not messages or messages[0].get("role") != "system"):
            total += self._turn("system", _DEFAULT_SYSTEM)
        for position, message in enumerate(messages):
            total += self._message(message, format, reasons=position >= open_turn)
        return total + self._turn("assistant", "") - 1 + (format == "k25")  # no <|im_end|>; K2.5 opens <think>

    def _count(self, text: str) -> int:
        raise NotImplementedError

    def _turn(self, name: str, body: str) -> int:
        """Return the tokens of ``<|im_{role}|>{name}<|im_middle|>{body}<|im_end|>``."""
        return 3 + self.text(name) + self.text(body)

    def _declared(self, tools: Sequence[Tool], format: Format) -> int:
        plain = _json(tools)
        if format == "k2":
            return self._turn("tool_declare", plain)
        return self._counts(f"k25:{digest(plain)}", lambda: self._turn("tool_declare", _typescript(tools) or plain))

    def _message(self, message: Message, format: Format, *, reasons: bool) -> int:
        role, content = str(message.get("role") or ""), message.get("content")
        total, text = self._turn(str(message.get("name") or role), ""), text_of(content)
        if role == "tool":
            text = f"## Return of {message.get('tool_call_id') or ''}\n{text}"
        if role == "assistant":
            total += self._reasoning(message, format) if reasons else 2 * (format == "k25")
            total += self._calls(message.get("tool_calls"))
        if not isinstance(content, str):
            total += sum(_MEDIA_FRAME + size for size in _media(content))
        return total + self.text(text)

    def _reasoning(self, message: Message, format: Format) -> int:
        """Return the tokens of ``<think>{reasoning}</think>``."""
        said = next((text for key in REASONING_KEYS if isinstance(text := message.get(key), str)), None)
        if said is None and message.get("reasoning_details"):
            said = text_of(message["reasoning_details"])
        if said is None:
            return 2 if format == "k25" else 0
        return 2 + self.text(said)

    def _calls(self, calls: Any) -> int:
        """Return the tokens of a section of tool calls in the native text: 2 control tokens, 3 more for each call."""
        if not isinstance(calls, Sequence) or not calls:
            return 0
        total = 2
        for call in calls:
            if isinstance(call, Mapping):
                function = call.get("function")
                arguments = function.get("arguments") if isinstance(function, Mapping) else None
                written = arguments if isinstance(arguments, str) else _json(arguments or {})
                total += 3 + self.text(str(call.get("id") or "")) + self.text(written)
        return total


class Estimate(_Templated):
    """Counts without the vocabulary: cuts a text where Kimi's tokenizer does, prices each piece by kind and length.

    Within 15% of the real count for a few hundred characters or more of English and Chinese prose, markdown, code,
    JSON and YAML, mostly within 5%. Less close: other languages (mostly within 20%), transliterated names, encoded
    data (base64: up to 30% too low), mathematical symbols and emoji. Linear in the length of the text.
    """

    exact: bool = False
    margin: float = 0.15

    def __repr__(self) -> str:
        """Say what it is."""
        return "Estimate()"

    def _count(self, text: str) -> int:
        total = accents = words = foreign = 0.0
        han: list[str] = []
        for piece, times in Counter(_pieces()(text)).items():
            kind, tokens = _price(piece)
            total += tokens * times
            if kind == "han":
                han.append(piece * times)
            elif kind == "accent":
                accents += times
            elif kind == "word":
                words += times
                foreign += max(0, len(piece) - 5) * times
        # German, French, Polish ... spell most words in plain letters, and they are cut into more tokens than English.
        total += 0.22 * foreign * min(1.0, 12 * accents / words) if words else 0.0
        total += 1.1 * _rare("".join(han))
        return max(1, round(total))


class Vocabulary(_Templated):
    """Counts with Kimi's own vocabulary. Made by `exact`."""

    exact: bool = True
    margin: float = 0.0

    def __init__(self, encoding: tiktoken.Encoding, source: Path) -> None:
        """Wrap a loaded encoding; ``source`` is the file that it came from."""
        super().__init__()
        self._encoding = encoding
        self.source = source

    def __repr__(self) -> str:
        """Say which file."""
        return f"Vocabulary({str(self.source)!r})"

    def token_ids(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens in it are encoded as ordinary text."""
        return [number for part in _parts(text) for number in self._encoding.encode_ordinary(part)]

    def _count(self, text: str) -> int:
        return len(self.token_ids(text))


def exact(path: str | Path | None = None) -> Vocabulary | None:
    """Load Kimi's vocabulary from this machine; nothing is ever downloaded. Loaded once per file.

    Args:
        path: ``tiktoken.model`` or the directory that holds it. None: what the environment variable
            REFRASE_KIMI_TOKENIZER names, else the first Kimi K2 or K3 in the Hugging Face cache (HF_HUB_CACHE, HF_HOME
            or ``~/.cache/huggingface``). The search is done once per process and setting.

    Returns:
        The counter; None where no path was given and no usable file is found, or tiktoken is not installed.

    Raises:
        MissingExtra: a path was given and tiktoken is not installed.
        ConfigurationError: a path was given and there is no such file, or it is not Kimi's vocabulary.
    """
    if path is not None:
        return _load(_model_file(Path(path)))
    return _search(*map(os.environ.get, (_VARIABLE, *_PLACES)))


def counter(path: str | Path | None = None) -> TokenCounter:
    """Return the exact counter where the vocabulary is found (see `exact`), else the estimate."""
    return exact(path) or estimate


_REMEMBERED = 8_192  # counts, each some 150 bytes: every message of a few long threads
_DEFAULT_SYSTEM = "You are Kimi, an AI assistant created by Moonshot AI."  # the K2 templates add it
_VARIABLE = "REFRASE_KIMI_TOKENIZER"
_logger = logging.getLogger("refrase_integrations")


# -- the vocabulary ------------------------------------------------------------------------------------------

_RANKS = 163_584  # tokens of the vocabulary without the 256 reserved for control tokens
_LARGEST = 16_000_000  # bytes; the real file has 2,795,286

# tokenization_kimi.py of moonshotai/Kimi-K2-Instruct, the same up to Kimi-K3. `&&` is the syntax of tiktoken's engine.
_UPPER, _LOWER = (rf"[{kinds}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^\p{{Han}}]]" for kinds in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
_LEAD, _SUFFIX = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERN: Final = "|".join(
    (
        r"[\p{Han}]+",
        f"{_LEAD}{_UPPER}*{_LOWER}+{_SUFFIX}",
        f"{_LEAD}{_UPPER}+{_LOWER}*{_SUFFIX}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
# tokenizer_config.json of moonshotai/Kimi-K2.5; the rest of 163,584 to 163,839 is reserved.
_SPECIAL: Final[dict[str, int]] = {
    "[BOS]": 163_584,
    "[EOS]": 163_585,
    "<|im_end|>": 163_586,
    "<|im_user|>": 163_587,
    "<|im_assistant|>": 163_588,
    "<|start_header_id|>": 163_590,
    "<|end_header_id|>": 163_591,
    "[EOT]": 163_593,
    "<|im_system|>": 163_594,
    "<|tool_calls_section_begin|>": 163_595,
    "<|tool_calls_section_end|>": 163_596,
    "<|tool_call_begin|>": 163_597,
    "<|tool_call_argument_begin|>": 163_598,
    "<|tool_call_end|>": 163_599,
    "<|im_middle|>": 163_601,
    "<|media_begin|>": 163_602,
    "<|media_content|>": 163_603,
    "<|media_end|>": 163_604,
    "<|media_pad|>": 163_605,
    "<think>": 163_606,
    "</think>": 163_607,
    "[UNK]": 163_838,
    "[PAD]": 163_839,
}

# Kimi's tokenizer never encodes more than so many characters at once, nor a longer run without (or of) white space:
# both keep the time of one piece bounded, and where they cut there is no merge (tokenization_kimi.py).
_AT_ONCE, _RUN = 400_000, 25_000


def _parts(text: str) -> Iterator[str]:
    for start in range(0, len(text), _AT_ONCE):
        part = text[start : start + _AT_ONCE]
        done = 0
        for run in _long_runs().finditer(part) if len(part) > _RUN else ():
            for cut in range(run.start() + _RUN, run.end(), _RUN):
                yield part[done:cut]
                done = cut
        yield part[done:]


@lru_cache(maxsize=1)
def _long_runs() -> re.Pattern[str]:
    # The look-behinds keep it linear: no second try in the middle of a run that was too short.
    return re.compile(rf"(?<!\s)\s{{{_RUN},}}|(?<!\S)\S{{{_RUN},}}")


@lru_cache(maxsize=16)
def _search(named: str | None, *places: str | None) -> Vocabulary | None:
    """Look in the file or directory that is named, then where huggingface_hub keeps downloaded models."""
    try:
        import tiktoken  # noqa: F401
    except ImportError:
        return None
    found = sorted(_hub(*places).glob("models--moonshotai--Kimi-K[23]*/snapshots/*/tiktoken.model"))
    for path in ([Path(named)] if named else []) + found:
        try:
            return _load(_model_file(path))
        except ConfigurationError as error:
            _logger.warning("token counts: %s", error)
    return None


_PLACES = ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME")


def _hub(hub: str | None, home: str | None, cache: str | None, _: str | None) -> Path:
    """Return the directory in which huggingface_hub keeps downloaded models, from the values of `_PLACES`."""
    if hub:
        return Path(hub).expanduser()
    return Path(home or Path(cache or "~/.cache") / "huggingface").expanduser() / "hub"


def _model_file(path: Path) -> Path:
    path = path.expanduser()
    path = path / "tiktoken.model" if path.is_dir() else path
    if not path.is_file():
        raise ConfigurationError(
            f"no tokenizer file at {path}: name tiktoken.model of a Kimi K2 model, or the directory that holds it"
        )
    return path.resolve()


@lru_cache(maxsize=4)
def _load(path: Path) -> Vocabulary:
    try:
        import tiktoken
    except ImportError as missing:
        raise MissingExtra("counting with Kimi's vocabulary", "tokens") from missing
    # Not tiktoken's own loader: that one copies the file into a cache and would go on serving the copy.
    ranks = _ranks(path)
    return Vocabulary(tiktoken.Encoding("kimi", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=_SPECIAL), path)


def _ranks(path: Path) -> dict[bytes, int]:
    """Read ``base64(token) rank`` lines and make sure that they are Kimi's."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST} bytes")
        pairs = (line.split() for line in path.read_bytes().splitlines() if line)
        ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not Kimi's tiktoken.model: {error}") from error
    if len(ranks) != _RANKS or set(ranks.values()) != set(range(_RANKS)):
        raise ConfigurationError(f"{path} is not Kimi's tiktoken.model: {len(ranks)} tokens instead of {_RANKS}")
    return ranks


# -- the estimate --------------------------------------------------------------------------------------------

# The script property Han of Unicode.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTERS = "\u00c0-\u1fff\u2c00-\u2dff\u3041-\u312f\u3131-\u318f\u31f0-\u31ff\ua000-\ud7ff\ufb00-\ufdff\ufe70-\uff9f"
_SIGNS = r"!-/:-@\[-`{-~"  # ASCII punctuation


@lru_cache(maxsize=1)
def _pieces() -> Any:
    """Return what cuts a text as `_PATTERN` does, near enough, in the syntax and at the speed of `re`."""
    return re.compile(
        rf"[ \t{_SIGNS}]?(?:[a-z]+|[A-Z]+[a-z]*)(?:'(?:[stmd]|re|ve|ll))?"
        r"|[0-9]{1,3}"
        rf"| ?[{_SIGNS}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)"
        rf"|[{_HAN}]+"
        rf"|[ {_SIGNS}]?[{_LETTERS}]+"
        rf"|\s| ?[^\s\w{_LETTERS}]+[\r\n]*"
        r"|\w"
    ).findall


# The figures below are fits against the vocabulary: tokens of a piece by its kind and length, on half of some 15 MB of
# documentation, source code, JSON, YAML and message catalogues (13 languages), checked on the other half.
_SCRIPTS: Final = (0x250, 0x400, 0x530, 0x600, 0x700, 0xE00, 0x1100, 0x1E00, 0x1F00, 0x2C00, 0x3130)
_BY_SCRIPT: Final = (
    (0.29, 1.0),  # Latin with accents: tokens a character, tokens a piece
    (1.15, 0.6),  # Greek
    (0.32, 0.7),  # Cyrillic
    (0.65, 0.4),  # Armenian, Hebrew
    (0.50, 0.5),  # Arabic
    (0.63, 0.35),  # scripts of India
    (0.77, 0.9),  # Thai, Lao, Tibetan, Burmese, Georgian
    (0.82, 0.55),
    (0.29, 1.0),  # Latin, Vietnamese
    (1.15, 0.6),  # Greek, polytonic
    (0.60, 0.25),  # kana
    (0.82, 0.55),  # Hangul and the rest
)


def _price(piece: str) -> tuple[Literal["word", "han", "accent", ""], float]:
    """Return the kind of ``piece``, as far as it matters, and its tokens on average."""
    length, last = len(piece), piece[-1]
    if piece.isascii():
        if last.isalpha():
            return "word", _word(piece, length)
        if piece.isspace():
            return "", _space(piece, length)
        if length <= 3 or last.isdigit() or len(set(piece.strip())) == 1:  # rules such as ----: a token or two
            return "", 1.0 + length // 60
        return "", 1.0 + 0.4 * (length - 3)
    if piece.isspace():
        return "", float(length)
    first = piece[0]
    if _is_han(first):
        return "han", max(1.0, 0.1 + 0.51 * length)
    if first in _SIGNS_AND_SPACE and length > 1:
        first = piece[1]
    if last.isalpha() or first.isalpha():
        slope, base = _BY_SCRIPT[bisect_right(_SCRIPTS, ord(first))]
        return ("accent" if first < "\u0250" else ""), max(1.0, base + slope * (length - (piece[0] == " ")))
    if len(set(piece.strip())) == 1:  # a rule; its line break belongs to the piece
        return "", 1.0 + length // 16
    astral = (len(piece.encode("utf-16-le", "surrogatepass")) // 2) - length
    return "", 1.0 + 0.45 * (length - 1) + 1.4 * astral


def _word(piece: str, length: int) -> float:
    """Price ``[ sign]letters['s]``: shorter words are one token, more often so behind a space than behind a sign."""
    lead = piece[0]
    bare = lead.isalpha()
    letters = length if bare else length - 1
    word = piece if bare else piece[1:]
    if letters > 1 and word[1].isupper():
        if word.isupper():
            return 1.0 + 0.2 * max(0, letters - 2)
        return 0.4 + 0.45 * letters  # HTTPServer; in encoded data most pieces look so
    if bare or lead == " ":
        return 1.0 + 0.03 * max(0, letters - 5) + 0.12 * max(0, letters - 11)
    return 1.0 + 0.1 * max(0, letters - 2) + 0.1 * max(0, letters - 11)


def _space(piece: str, length: int) -> float:
    lines = piece.count("\n")
    if not lines:
        return 1.0 + length // (240 if piece[0] == " " else 30)
    return 1.0 + lines // 16 + (piece.count("\n ") + piece.count("\n\t"))  # line breaks merge, blank lines do not


_SIGNS_AND_SPACE: Final = frozenset(" \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def _is_han(character: str) -> bool:
    return character >= "\u2e80" and _han()(character) is not None


@lru_cache(maxsize=1)
def _han() -> Any:
    return re.compile(f"[{_HAN}]").match


def _rare(han: str) -> int:
    """Return how many characters are not everyday simplified ones: they share no token with a neighbour."""
    return len(han) - len(han.encode("gb2312", "ignore")) // 2


# -- what the template writes --------------------------------------------------------------------------------

_MEDIA_FRAME = 4  # <|media_begin|>image<|media_content|> ... <|media_end|>
_FLAT_IMAGE = 1_024  # kimi.com/help/kimi-api/api-model-selection: the flat rate of the earlier vision models
_HEAD = 87_384  # characters of base64 (64 KiB) in which an image's size is looked for


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _current_turn(messages: Sequence[Message]) -> int:
    """Return the position behind the last assistant message without tool calls."""
    for position in range(len(messages) - 1, -1, -1):
        if messages[position].get("role") == "assistant" and not messages[position].get("tool_calls"):
            return position + 1
    return 0


def _media(content: Any) -> Iterator[int]:
    """Return the tokens of each image or video among the parts of ``content``."""
    for part in content if isinstance(content, Sequence) else ():
        if isinstance(part, Mapping) and str(part.get("type")) not in ("None", "text"):
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            size = _size(url) if isinstance(url, str) else None
            yield _image_tokens(*size) if size else _FLAT_IMAGE


def _image_tokens(width: int, height: int) -> int:
    """Return one token per 28 x 28 pixels (patches of 14, merged 2 x 2), some 4,096 at most.

    Larger images are scaled down to about 16,384 patches and 512 patches a side: ``preprocessor_config.json`` of
    moonshotai/Kimi-K2.5 (K2.6 has the same file).
    """
    patches = max(1, width // 14) * max(1, height // 14)
    scale = min(1.0, math.sqrt(16_384 / patches), 512 * 14 / width, 512 * 14 / height)
    return math.ceil(max(1, int(width * scale)) / 28) * math.ceil(max(1, int(height * scale)) / 28)


def _size(url: str) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG or JPEG in a data URL, or None."""
    head, comma, data = url[: _HEAD + 128].partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        return None
    try:
        raw = base64.b64decode(data[: min(len(data), _HEAD) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    width, height = _png(raw) if raw.startswith(b"\x89PNG\r\n\x1a\n") else _jpeg(raw)
    return (width, height) if width and height else None


def _png(raw: bytes) -> tuple[int, int]:
    return int.from_bytes(raw[16:20]), int.from_bytes(raw[20:24])


def _jpeg(raw: bytes) -> tuple[int, int]:
    at = 2
    while raw.startswith(b"\xff\xd8") and at + 9 <= len(raw) and raw[at] == 0xFF:
        if 0xC0 <= raw[at + 1] <= 0xCF and raw[at + 1] not in (0xC4, 0xC8, 0xCC):  # a frame's header
            return int.from_bytes(raw[at + 7 : at + 9]), int.from_bytes(raw[at + 5 : at + 7])
        at += 2 + int.from_bytes(raw[at + 2 : at + 4])
    return 0, 0


# -- tools as TypeScript: tool_declaration_ts.py of moonshotai/Kimi-K2.5 ------------------------------------------

_UNION: Final = {"integer": "number", "object": "{}", "array": "Array<any>"}
_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("maxLength", "minLength", "pattern"),
    "number": ("maximum", "minimum"),
    "integer": ("maximum", "minimum"),
    "array": ("maxItems", "minItems"),
}


def _typescript(tools: Sequence[Tool]) -> str | None:
    """Return the text in which K2.5 and later see the tools; None where they fall back to JSON."""
    try:
        declared = [
            _function(tool["function"]) for tool in tools if tool.get("type") == "function" and tool.get("function")
        ]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None  # a schema that the template's encoder has no form for
    return "# Tools\n\n## functions\nnamespace functions {\n" + "\n".join(declared) + "\n}\n" if declared else None


def _function(function: Mapping[str, Any]) -> str:
    parameters = function.get("parameters") or {}
    definitions = dict(sorted((parameters.get("$defs") or {}).items()))
    shape = _object(parameters, "", definitions)
    lines = [
        _comment(schema.get("description"), "") + f"interface {name} {_type(schema, '', definitions)}"
        for name, schema in definitions.items()
    ]
    if '"$ref":"#"' in _json(parameters):
        lines.insert(0, f"interface parameters {shape}")
        shape = "parameters"
    return "\n".join(
        [*lines, f"{_comment(function.get('description'), '')}type {function['name']} = (_: {shape}) => any;"]
    )


def _object(schema: Mapping[str, Any], indent: str, definitions: Mapping[str, Any]) -> str:
    inner, required = indent + "  ", schema.get("required") or ()
    fields = []
    for name, field in sorted(
        (schema.get("properties") or {}).items(), key=lambda pair: (pair[0] not in required, pair[0])
    ):
        default = field.get("default") if isinstance(field, Mapping) else None
        shown = repr(default) if isinstance(default, int | float) else _json(default)  # True, as the encoder has it
        note = "" if default is None else f"{inner}// Default: {shown}\n"
        mark = "" if name in required else "?"
        fields.append(f"{_notes(field, inner)}{note}{inner}{name}{mark}: {_type(field, inner, definitions)}")
    extra = schema.get("additionalProperties")
    if extra is not None:
        fields.append(f"{inner}[k: string]: {'never' if extra is False else _type(extra, inner, definitions)}")
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}" if fields else "{}"


def _type(schema: Any, indent: str, definitions: Mapping[str, Any]) -> str:
    if isinstance(schema, bool):
        return "any" if schema else "null"
    if reference := schema.get("$ref"):
        name = "parameters" if reference == "#" else reference.removeprefix("#/$defs/")
        if reference != "#" and name not in definitions:
            raise ValueError("a reference that leads nowhere")
        return str(name)
    if "anyOf" in schema:
        return " | ".join(_type(branch, indent, definitions) for branch in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in schema["enum"])
    kind = schema["type"] if schema else "any"
    if isinstance(kind, list):
        return " | ".join(str(_UNION.get(each) or each) for each in kind)
    if kind == "object":
        return _object(schema, indent, definitions)
    if kind == "array":
        items = schema.get("items") or {}
        notes = _notes(items, indent + "  ")
        if notes:
            return f"Array<\n{notes}{indent}  {_type(items, indent + '  ', definitions)}\n{indent}>"
        return f"Array<{_type(items, indent, definitions)}>"
    return "number" if kind == "integer" else str(kind)


def _notes(schema: Any, indent: str) -> str:
    """Return the comment lines above a field: its description, then its limits."""
    if not isinstance(schema, Mapping):
        return ""
    kind = schema.get("type")
    plain = isinstance(kind, str) and not {"$ref", "anyOf", "enum"} & schema.keys()
    limits = [f"{key}: {schema[key]}" for key in _LIMITS.get(str(kind), ()) if plain and key in schema]
    return _comment(schema.get("description"), indent) + (f"{indent}// {', '.join(limits)}\n" if limits else "")


def _comment(text: Any, indent: str) -> str:
    lines = str(text).split("\n") if text else []
    return "".join(f"{indent}// {line}\n" if line else "\n" for line in lines)


estimate: Final = Estimate()
"""The estimate, ready to use."""
