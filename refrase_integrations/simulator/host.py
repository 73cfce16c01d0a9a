"""What a simulated host makes of a request: key, model, rules, script, answer, quirks. No HTTP server."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import traceback
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.simulator import anthropic, formulas
from refrase_integrations.simulator.answers import answer
from refrase_integrations.simulator.breakage import Breakage
from refrase_integrations.simulator.completion import CREATED, Call, Choice, Completion
from refrase_integrations.simulator.counting import count_text, count_tokens
from refrase_integrations.simulator.damage import bend_request, damage
from refrase_integrations.simulator.figures import FIGURES, Figures, figures_for
from refrase_integrations.simulator.outcome import Outcome
from refrase_integrations.simulator.personas import Persona, load_persona
from refrase_integrations.simulator.quirks import resolve
from refrase_integrations.simulator.rules import RULES, Refusal, check
from refrase_integrations.simulator.script import Reply, Script, ScriptExhaustedError, ScriptSource

if TYPE_CHECKING:
    from refrase_integrations.simulator.faults import Faults

_log = logging.getLogger("refrase_integrations.simulator")

REMOVED = "[removed]"
"""Stands in a record where a secret was."""


@dataclass
class Recorded:
    """One request as it arrived, without its secrets, and what became of it. Shows no content in its repr."""

    method: str
    path: str
    """Such as ``/v1/chat/completions``."""
    query: dict[str, str] = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    """By lower-case name; the values of keys, tokens and cookies are replaced."""
    raw: bytes = field(repr=False)
    """The body, byte for byte."""
    body: Any = field(default=None, repr=False)
    """The body as parsed JSON; None where it is not JSON."""
    status: int | None = None
    """Of the response; None while there is none."""
    refusal: Refusal | None = None
    """Why it was refused, if it was."""
    faults: tuple[str, ...] = ()
    """The faults that it met, by their names in `Faults`."""
    sent: int = 0
    """Events of a stream (or bodies) that were sent so far."""
    disconnected: bool = False
    """The client went away before the end."""


class SimulatedHost:
    """One simulated host with its state: the script, the records, the prompt cache.

    Args:
        persona: id of the host to play (`persona_ids`).
        models: ``"all"`` (as None) serves every known model, ``"live"`` those that Moonshot itself has not
            retired; or the models to serve.
        script: replies to give, one per request, or a function of the request body; see `Script`.
        after: what follows the last scripted reply: ``"answer"`` (useful answers) or ``"error"`` (a 500).
        quirks: values of single quirks, over those of the persona; see `known_quirks`.
        faults: how often a chat request meets which trouble: a `Faults`, its fields, or text such as ``"chaos"``.
        api_key: the only key to accept; None: any, or none.
        seed: the same seed and the same requests give the same bytes.
        strict: False: no rule is checked but that fields have the right types, and unknown models answer too.
        chunk_size: characters in a piece of streamed text, on average.
        keep: most requests to keep in the record.

    Raises:
        ConfigurationError: an argument is unknown or contradictory.
    """

    def __init__(
        self,
        persona: str = "moonshot",
        *,
        models: Iterable[str] | Literal["all", "live"] | None = None,
        script: ScriptSource | None = None,
        after: Literal["answer", "error"] = "answer",
        quirks: Mapping[str, Any] | None = None,
        faults: Faults | Mapping[str, Any] | str | None = None,
        api_key: str | None = None,
        seed: int = 0,
        strict: bool = True,
        chunk_size: int = 8,
        keep: int = 10_000,
    ) -> None:
        from refrase_integrations.simulator.faults import Faults  # pydantic is not for everybody who only imports us

        _check(quirks, api_key, seed, chunk_size, keep)
        self.persona: Persona = load_persona(persona)
        self.quirks: Mapping[str, Any] = _quirks(self.persona, quirks or {})
        self.faults: Faults = Faults.of(faults)
        self._served = _served(models)
        self._script = Script(script, after)
        self._api_key = api_key
        self._seed = seed
        self._strict = strict
        self._chunk_size = max(1, chunk_size)
        self._records: deque[Recorded] = deque(maxlen=keep)
        self._repeats: Counter[bytes] = Counter()
        self._prompts = _PromptCache()
        self._lock = RLock()  # a script's function may read the record

    @property
    def models(self) -> list[str]:
        """Canonical ids of the models that are served."""
        return [id for id in FIGURES if id in self._served]

    @property
    def requests(self) -> list[Recorded]:
        """Every request so far, oldest first."""
        with self._lock:
            return list(self._records)

    @property
    def refusals(self) -> list[Refusal]:
        """Every refusal so far, oldest first."""
        return [record.refusal for record in self.requests if record.refusal]

    def reset(self) -> None:
        """Forget all requests and start again, script and random choices included."""
        with self._lock:
            self._records.clear()
            self._repeats.clear()
            self._prompts = _PromptCache()
            self._script.rewind()

    def respond(
        self, method: str, path: str, *, query: Mapping[str, str], headers: Mapping[str, str], raw: bytes
    ) -> tuple[Recorded, Outcome]:
        """Record one request and return it with the response to send.

        Args:
            method: HTTP method.
            path: such as ``/v1/models``.
            query: query parameters.
            headers: request headers by lower-case name.
            raw: the body.
        """
        clean_query = {name: REMOVED if _SECRET.search(name) else value for name, value in query.items()}
        clean_headers = {name: _clean(name, value) for name, value in headers.items()}
        record = Recorded(method, path, clean_query, clean_headers, raw)
        try:
            record.body = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            record.body = None
        with self._lock:
            self._records.append(record)
            outcome = self._route(record, headers.get("authorization") or f"Bearer {headers.get('x-api-key', '')}")
        record.status, record.refusal = outcome.status, outcome.refusal
        _log.debug("%s %s %d %s", method, path, outcome.status, " ".join(record.faults))
        return record, outcome

    # -- endpoints ---------------------------------------------------------------------------------------

    def _route(self, record: Recorded, authorization: str) -> Outcome:
        handlers: dict[str, tuple[str, Callable[[Recorded], Outcome]]] = {
            "/v1/models": ("GET", self._models),
            "/v1/chat/completions": ("POST", self._chat),
        }
        if self.persona.endpoints == "moonshot":
            handlers["/v1/tokenizers/estimate-token-count"] = ("POST", self._estimate)
            handlers["/v1/users/me/balance"] = ("GET", self._balance)
            handlers |= self._formulas(record.path.rstrip("/"))
            handlers[anthropic.PATH] = ("POST", self._anthropic)
        if record.path.rstrip("/") not in handlers:
            return self._refuse(Refusal(404, "resource_not_found_error", "The requested resource was not found"))
        method, handler = handlers[record.path.rstrip("/")]
        if record.method != method:
            refused = self._refuse(Refusal(405, "invalid_request_error", f"Only {method} is allowed here"))
            return replace(refused, headers={**refused.headers, "allow": method})
        if self._api_key is not None and not _same(authorization, f"Bearer {self._api_key}"):
            # As seen in oh-my-pi#5981, for a missing key as for a wrong one.
            return self._refuse(Refusal(401, "invalid_authentication_error", "Invalid Authentication"))
        if method == "POST" and not isinstance(record.body, dict):
            return self._refuse(Refusal(400, "invalid_request_error", "Invalid request: the body is not a JSON object"))
        return handler(record)

    def _models(self, _record: Recorded) -> Outcome:
        from refrase_integrations.kimi.catalogue import models

        return self._json(
            200,
            {
                "object": "list",
                "data": [
                    {
                        "id": self._spelling(profile),
                        "object": "model",
                        "created": CREATED,
                        "owned_by": self.persona.owner,
                        "context_length": profile.limits.window,
                        "supports_image_in": profile.modalities.image,
                        "supports_video_in": profile.modalities.video,
                        "supports_reasoning": profile.thinking.mode != "instruct",
                        "simulated": True,
                    }
                    for profile in models()
                    if profile.id in self._served
                ],
            },
        )

    def _spelling(self, profile: Any) -> str:
        if self.persona.spelling == "canonical":
            return str(profile.id)
        served = profile.hosts.get(self.persona.id)
        return str(served.names[0] if served and served.names else profile.identity.weights or profile.id)

    def _balance(self, _record: Recorded) -> Outcome:
        nothing = {"available_balance": 0, "voucher_balance": 0, "cash_balance": 0}
        note = "This is a simulator: there is no account and no money."
        return self._json(200, {"code": 0, "data": nothing, "scode": "0x0", "status": True, "note": note})

    def _formulas(self, path: str) -> dict[str, tuple[str, Callable[[Recorded], Outcome]]]:
        """Return the handlers of the formula that ``path`` belongs to."""
        uri, _, end = path.removeprefix("/v1/formulas/").rpartition("/")
        formula = formulas.find(uri) if path.startswith("/v1/formulas/") else None
        if formula is None:
            return {}
        if end == "tools":
            return {path: ("GET", lambda _record: self._json(200, formula.declaration()))}
        if end == "fibers":
            return {path: ("POST", lambda record: self._fiber(formula, record))}
        return {}

    def _fiber(self, formula: formulas.Formula, record: Recorded) -> Outcome:
        id = f"fiber-{self._random(self._occasion(record.raw)).getrandbits(96):024x}"
        made = formulas.run(formula, record.body)
        return self._refuse(made) if isinstance(made, Refusal) else self._json(200, {"id": id, **made}, id)

    def _estimate(self, record: Recorded) -> Outcome:
        figures = self._figures(record.body)
        if isinstance(figures, Refusal):
            return self._refuse(figures)
        if refusal := check(record.body, figures, _ONLY_SHAPE):
            return self._refuse(refusal)
        return self._json(200, {"data": {"total_tokens": count_tokens(record.body)}})

    def _chat(self, record: Recorded) -> Outcome:
        return self._reply(record, record.body, self._spoken)

    def _anthropic(self, record: Recorded) -> Outcome:
        figures = self._figures(record.body)
        body = anthropic.chat_body(record.body, None if isinstance(figures, Refusal) else figures)
        if isinstance(body, Refusal):
            outcome = self._refuse(body)
        else:
            outcome = self._reply(record, body, self._spoken_as_anthropic)
        if outcome.refusal is None:
            return outcome
        return replace(outcome, events=[[_dump(anthropic.error_body(outcome.refusal))]])

    def _reply(self, record: Recorded, body: dict[str, Any], spoken: _Spoken) -> Outcome:
        figures = self._figures(body)
        if isinstance(figures, Refusal):
            return self._refuse(figures)
        if refusal := check(body, figures, self._rule_quirks() if self._strict else _ONLY_SHAPE):
            return self._refuse(refusal)
        occasion = self._occasion(record.raw)
        breakage = Breakage(self.faults, self._random(occasion, self.faults))
        outcome = breakage.instead(self._refuse)
        if outcome is None:
            outcome = self._answer(body, figures, spoken, self._random(occasion), breakage)
            if outcome.status < 400:
                outcome = breakage.on_the_way(outcome, _error_body(record.path))
        record.faults = tuple(breakage.met)
        return outcome

    def _answer(
        self, body: dict[str, Any], figures: Figures, spoken: _Spoken, random: Random, breakage: Breakage
    ) -> Outcome:
        try:
            reply = self._script.next(body)
        except ScriptExhaustedError as exhausted:
            return self._refuse(Refusal(500, "script_exhausted", str(exhausted)))
        except Exception as error:  # noqa: BLE001 - the user's own function
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"the script raised {type(error).__name__} at {where.filename}:{where.lineno}"
            _log.warning("%s", words)
            return self._refuse(Refusal(500, "script_error", words))
        if reply is not None and reply.chunks is not None:
            return self._verbatim(reply, reply.chunks, streamed=bool(body.get("stream")))
        if reply is not None and reply.status >= 400:
            kind = reply.error_type or _TYPES.get(reply.status, "server_error")
            refusal = Refusal(reply.status, kind, reply.message or f"Scripted error {reply.status}")
            return self._shaped(self._refuse(refusal), reply)
        completion = self._complete(body, figures, reply, random)
        completion = replace(completion, choices=breakage.replies(completion.choices))
        return self._shaped(spoken(completion, body, random), reply)

    # -- models and rules --------------------------------------------------------------------------------

    def _figures(self, body: Mapping[str, Any]) -> Figures | Refusal:
        name = str(body.get("model"))
        if not self._strict:
            return figures_for(name) or next(iter(FIGURES.values()))
        found = FIGURES.get(name) if self.persona.spelling == "canonical" else figures_for(name)
        if found and found.id in self._served:
            return found
        # As seen in dify#39778.
        words = f"Not found the model {name} or Permission denied"
        return Refusal(404, "resource_not_found_error", words)

    def _rule_quirks(self) -> dict[str, Any]:
        """Return the quirks in the form that the rules take: sets, and None for what is not limited."""
        accepted = self.quirks["message_fields"]
        unknown = self.quirks["unknown_fields"]
        return {
            **self.quirks,
            "message_fields": frozenset(accepted) if accepted else None,
            "unknown_fields": None if unknown == "ignore" else unknown,
            "reasoning_fields": frozenset(self.quirks["reasoning_fields"]),
        }

    # -- replies -----------------------------------------------------------------------------------------

    def _occasion(self, raw: bytes) -> str:
        """Return what makes this request one of its kind: its bytes and how often they came before.

        Not its place among all requests: concurrent clients would make runs differ.
        """
        digest = hashlib.sha256(raw).digest()
        self._repeats[digest] += 1
        return f"{self._repeats[digest]}:{digest.hex()}"

    def _random(self, occasion: str, faults: Faults | None = None) -> Random:
        """Return the generator of a request: of its reply, or of its faults, so that these change no reply."""
        seed = self._seed if faults is None else f"faults:{self._seed if faults.seed is None else faults.seed}"
        return Random(f"{seed}:{occasion}")  # noqa: S311 - reproducible

    def _complete(self, body: dict[str, Any], figures: Figures, reply: Reply | None, random: Random) -> Completion:
        id = f"chatcmpl-{random.getrandbits(96):024x}"
        bent = bend_request(body, self.quirks, random, thinking=figures.thinking_default)
        wanted = min(body.get("n") or 1, _MOST_CHOICES)
        said = [_scripted(reply) if reply else _answered(bent, figures, random) for _ in range(wanted)]
        choices = [
            damage(
                Choice(one.content, one.reasoning, self._named(one.calls, body, random), one.finish_reason),
                body,
                self.quirks,
                random,
                leaks=figures.tool_format == "k2",
            )
            for one in said
        ]
        usage = self._usage(body, sum(one.tokens for one in said), sum(one.reasoning_tokens for one in said))
        if reply is not None and reply.usage is not None:
            usage = dict(reply.usage)
        return Completion(id, body.get("model") or figures.id, choices, usage, self.quirks["reasoning_out"])

    def _spoken(self, completion: Completion, body: Mapping[str, Any], random: Random) -> Outcome:
        id = completion.id
        if not body.get("stream"):
            return self._json(200, completion.whole(), id)
        chunks = completion.chunks(
            random,
            size=self._chunk_size,
            usage_in=self.quirks["usage_in"],
            final=bool((body.get("stream_options") or {}).get("include_usage")),
        )
        events = [_packets(_event(chunk), random) for chunk in chunks]
        return Outcome(200, [*events, [_DONE]], "text/event-stream", self._headers(id))

    def _spoken_as_anthropic(self, completion: Completion, body: Mapping[str, Any], random: Random) -> Outcome:
        id = completion.id
        if not body.get("stream"):
            return self._json(200, anthropic.whole(completion), id)
        events = [
            _packets(f"event: {name}\n".encode() + _event({"type": name, **data}), random)
            for name, data in anthropic.events(completion, random, size=self._chunk_size)
        ]
        return Outcome(200, events, "text/event-stream", self._headers(id))

    def _named(
        self, calls: Sequence[tuple[str, str, str | None]], body: Mapping[str, Any], random: Random
    ) -> list[Call]:
        """Give ids to calls, in the host's form; an id that a script gives stays."""
        earlier = sum(len(message.get("tool_calls") or []) for message in body["messages"])
        forms: dict[str, Callable[[str, int], str]] = {
            "functions": lambda name, position: f"functions.{name}:{position}",
            "name": lambda name, position: f"{name}:{position}",
            "opaque": lambda _name, _position: f"call_{random.getrandbits(96):024x}",
        }
        form = forms[self.quirks["tool_ids"]]
        return [
            Call(name, arguments, id or form(name, earlier + index), earlier + index, index)
            for index, (name, arguments, id) in enumerate(calls)
        ]

    def _usage(self, body: Mapping[str, Any], spent: int, reasoned: int) -> dict[str, Any]:
        prompt = count_tokens(body)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": spent,
            "total_tokens": prompt + spent,
        }
        if self.quirks["prompt_cache"]:
            cached = self._prompts.cached(body)
            if "usage" in self.quirks["cached_in"]:
                usage["cached_tokens"] = cached
            if "details" in self.quirks["cached_in"]:
                usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if reasoned:
            usage["completion_tokens_details"] = {"reasoning_tokens": reasoned}
        return usage

    # -- responses ---------------------------------------------------------------------------------------

    def _headers(self, id: str = "") -> dict[str, str]:
        named = {"x-simulator": f"refrase-integrations; persona={self.persona.id}"}
        return {**named, "x-request-id": id} if id else named

    def _json(self, status: int, value: Any, id: str = "") -> Outcome:
        return Outcome(status, [[_dump(value)]], headers=self._headers(id))

    def _refuse(self, refusal: Refusal) -> Outcome:
        error: dict[str, Any] = {"message": refusal.message, "type": refusal.type}
        if self.persona.errors == "openai":
            error |= {"param": None, "code": refusal.status}
        return replace(self._json(refusal.status, {"error": error}), refusal=refusal)

    def _verbatim(self, reply: Reply, chunks: Sequence[Mapping[str, Any] | str], *, streamed: bool) -> Outcome:
        if not streamed:
            body = chunks[0] if chunks else ""
            raw = body.encode() if isinstance(body, str) else _dump(body)
            media_type = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
            return self._shaped(Outcome(reply.status, [[raw]], media_type, self._headers()), reply)
        events = [[chunk.encode() if isinstance(chunk, str) else _event(chunk)] for chunk in chunks]
        if not chunks or not isinstance(chunks[-1], str):
            events.append([_DONE])
        return self._shaped(Outcome(reply.status, events, "text/event-stream", self._headers()), reply)

    def _shaped(self, outcome: Outcome, reply: Reply | None) -> Outcome:
        """Add what a script says about the way of sending."""
        if reply is None:
            return outcome
        extra = {name.lower(): value for name, value in reply.headers.items()}
        media_type = extra.pop("content-type", outcome.media_type)
        return replace(
            outcome,
            status=outcome.status if outcome.refusal else reply.status,
            media_type=media_type,
            headers={**outcome.headers, **extra},
            delay=reply.delay,
            pause=reply.pause,
            cut_after=reply.cut_after,
        )


_Spoken = Callable[[Completion, Mapping[str, Any], Random], Outcome]
"""Puts a completion into a protocol's form."""


class _PromptCache:
    """Remembers the beginnings of prompts, as Moonshot's automatic prefix cache does."""

    least = 256
    """Tokens below which nothing is cached (platform.kimi.ai/docs/guide/context-caching)."""

    def __init__(self, size: int = 20_000) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._size = size

    def cached(self, body: Mapping[str, Any]) -> int:
        """Return how many tokens of this prompt came before, and remember the prompt."""
        head = hashlib.sha256(_dump([body.get("model"), body.get("tools")]))
        known = 0
        for index, message in enumerate(body["messages"], 1):
            head.update(_dump(message))
            digest = head.digest()
            if digest in self._seen:
                known = index
                self._seen.move_to_end(digest)
            self._seen[digest] = None
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)
        tokens = count_tokens({**body, "messages": body["messages"][:known]}) if known else 0
        return tokens if tokens >= self.least else 0


# -- arguments -------------------------------------------------------------------------------------------


def _quirks(persona: Persona, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    values = resolve(persona.form, chosen)
    return resolve(persona.form, persona.faults, chosen) if values["documented"] else values


def _check(quirks: object, api_key: object, seed: object, chunk_size: object, keep: object) -> None:
    if quirks is not None and not (isinstance(quirks, Mapping) and all(isinstance(name, str) for name in quirks)):
        raise ConfigurationError(f"quirks are a dict by name, not a {type(quirks).__name__}")
    if api_key is not None and not (isinstance(api_key, str) and api_key.isascii()):
        raise ConfigurationError("api_key is a text of ASCII characters")
    for name, value in (("seed", seed), ("chunk_size", chunk_size), ("keep", keep)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or abs(value) >= 2**63
            or (name == "keep" and value < 0)
        ):
            raise ConfigurationError(f"{name} is a whole number, not a {type(value).__name__} that does not fit")


def _served(models: Iterable[str] | None) -> frozenset[str]:
    if models is None or models == "all":
        return frozenset(FIGURES)
    if models == "live":
        return frozenset(id for id, figures in FIGURES.items() if figures.live)
    names = list(models) if isinstance(models, Iterable) and not isinstance(models, (str, bytes, Mapping)) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise ConfigurationError("models is 'all', 'live' or a list of models")
    found = {name: figures_for(name) for name in names}
    if unknown := [name for name, figures in found.items() if figures is None]:
        raise ConfigurationError(f"unknown models {', '.join(unknown)}; known: {', '.join(FIGURES)}")
    return frozenset(figures.id for figures in found.values() if figures)


# -- requests --------------------------------------------------------------------------------------------

_MOST_CHOICES = 128
_SECRET = re.compile(r"auth|key|token|secret|cookie|password|credential|signature", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"^(bearer|basic)\s|\bsk-", re.IGNORECASE)


def _clean(name: str, value: str) -> str:
    return REMOVED if _SECRET.search(name) or _SECRET_VALUE.search(value) else value


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


_ONLY_SHAPE = MappingProxyType({f"rules.{name}": False for name in RULES if name != "shape"})
"""Quirks that leave one rule: fields have their types. Nothing could be answered without it."""


# -- what the model says ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    content: str
    reasoning: str | None
    calls: Sequence[tuple[str, str, str | None]]
    """Name, arguments, and the id that a script gives."""
    finish_reason: str
    tokens: int
    """All of the reply, its reasoning included."""
    reasoning_tokens: int


def _answered(body: dict[str, Any], figures: Figures, random: Random) -> _Said:
    given = answer(body, figures, seed=random.getrandbits(32))
    calls = [(name, arguments, None) for name, arguments in given.tool_calls]
    return _Said(
        given.content,
        given.reasoning,
        calls,
        given.finish_reason,
        given.completion_tokens,
        given.reasoning_tokens,
    )


def _scripted(reply: Reply) -> _Said:
    calls = reply.calls()
    thought = count_text(reply.reasoning)
    spoken = count_text(reply.content) + sum(count_text(name) + count_text(text) for name, text, _ in calls)
    finish = reply.finish_reason or ("tool_calls" if calls else "stop")
    return _Said(reply.content, reply.reasoning, calls, finish, thought + spoken, thought)


# -- bytes -----------------------------------------------------------------------------------------------

_DONE = b"data: [DONE]\n\n"


def _error_body(path: str) -> Callable[[Refusal], dict[str, Any]]:
    if path.rstrip("/") == anthropic.PATH:
        return anthropic.error_body
    return lambda refusal: {"error": {"message": refusal.message, "type": refusal.type}}


_TYPES = {
    400: "invalid_request_error",
    401: "invalid_authentication_error",
    403: "permission_denied_error",
    404: "resource_not_found_error",
    429: "rate_limit_reached_error",
    503: "server_unavailable",
}


def _dump(value: Any) -> bytes:
    # A lone surrogate can come out of cut or damaged text; it must not become a 500.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + _dump(chunk) + b"\n\n"


def _packets(event: bytes, random: Random) -> list[bytes]:
    """Cut some events in two, inside a multi-byte character where there is one: TCP knows no characters."""
    middle = [] if event.isascii() else [place for place, byte in enumerate(event) if byte & 0xC0 == 0x80]
    cut = random.choice(middle) if middle else random.randint(1, len(event) - 1)
    return [event[:cut], event[cut:]] if middle or random.random() < 0.25 else [event]
