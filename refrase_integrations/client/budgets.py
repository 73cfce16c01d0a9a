"""What may be spent: tokens and US dollars, of everything that goes through one `Budget`, or of each thread in it."""

from __future__ import annotations

import math
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, cast

from refrase_integrations.errors import BudgetExceeded, ConfigurationError
from refrase_integrations.kimi.usage import add_usage
from refrase_integrations.kimi.wire import Usage


class Cost(NamedTuple):
    """What a request could cost, or did."""

    input: int
    """Prompt tokens."""
    output: int
    """Reply tokens."""
    usd: float | None
    """US dollars; None: no price is known."""
    usage: Usage | None = None
    """As the host gave it."""

    @property
    def tokens(self) -> int:
        """Prompt and reply together."""
        return self.input + self.output


@dataclass(frozen=True)
class Spent:
    """What was spent so far."""

    requests: int = 0
    """Requests that have ended, failed ones included."""
    tokens: int = 0
    """Prompt and reply tokens."""
    usd: float = 0.0
    """US dollars, as far as prices are known."""
    usage: Usage | None = None
    """Tokens as the hosts counted them, cached and reasoning tokens included, where they did."""


@dataclass
class _Purse:
    spent: Spent = field(default_factory=Spent)
    tokens: int = 0
    """Reserved by running requests; `usd` likewise."""
    usd: float = 0.0


class Budget:
    """What may be spent. A request that could pass it is not sent: `BudgetExceeded`.

    ```python
    budget = Budget(usd=5.0, thread_usd=0.10)
    model = ChatKimi(budget=budget)     # all that this model spends, and each of its threads
    with Budget(tokens=200_000) as run:  # all that is spent in here, by whatever model of this package
        agent.invoke(...)
    print(run.spent.usd, budget.spent.usd)
    ```

    A request reserves what it could cost before it leaves (its prompt at the full price and its whole output limit) and
    is charged what the reply says, so requests that run at once cannot pass a budget together; near its end one may be
    refused that would have fitted (`BudgetExceeded.passing`). Further requests of the same call (re-asks, retries, the
    rest of a long reply) count like any other. What a failed request has cost no host tells: one that was refused
    counts nothing, one whose reply was lost its prompt and what came of the reply.

    A budget is what was spent: copies of a model, and deep copies of the budget, share it; a pickle goes on counting
    apart, from what was spent by then. It belongs to one process. Threads and event loops may share it.

    Args:
        usd: US dollars; None: no limit. The catalogue has to know the price, `register_model` adds one.
        tokens: prompt and reply tokens together.
        thread_usd: the same for each thread: the ``thread_id`` of a LangGraph run's config, or of `Kimi`. Calls that
            name none count as one thread.
        thread_tokens: tokens of each thread.
        rule: what a request could cost: "worst" counts its whole output limit, "expected" the longest reply so far
            (a longer one then passes the budget by the difference).

    Raises:
        ConfigurationError: a figure is no number above 0, or the rule is unknown.
    """

    def __init__(
        self,
        *,
        usd: float | None = None,
        tokens: int | None = None,
        thread_usd: float | None = None,
        thread_tokens: int | None = None,
        rule: Literal["worst", "expected"] = "worst",
    ) -> None:
        figures = {"usd": usd, "tokens": tokens, "thread_usd": thread_usd, "thread_tokens": thread_tokens}
        for name, value in figures.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise ConfigurationError(f"Budget({name}=...) must be a number above 0, not {value!r:.20}")
        if rule not in ("worst", "expected"):
            raise ConfigurationError(f"Budget(rule=...) must be 'worst' or 'expected', not {rule!r:.20}")
        self._limits = {name: cast(float, value) for name, value in figures.items() if value is not None}
        self._rule = rule
        self._lock = threading.Lock()
        self._all = _Purse()
        self._threads: dict[str | None, _Purse] = {}
        self._longest = 0

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._limits.items())
        spent = self.spent
        return f"Budget({limits}): {spent.tokens:,} tokens, ${spent.usd:.4f} spent in {spent.requests:,} requests"

    def __copy__(self) -> Budget:
        return self

    def __deepcopy__(self, memo: Any) -> Budget:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            spent = {thread: purse.spent for thread, purse in self._threads.items()}
            return (_restored, (self._limits, self._rule, self._all.spent, spent, self._longest))

    @property
    def limited(self) -> bool:
        """Whether it has any limit; one without only counts."""
        return bool(self._limits)

    @property
    def spent(self) -> Spent:
        """What was spent so far, by requests that have ended."""
        return self._all.spent

    def spent_by(self, thread_id: str | None) -> Spent:
        """Return what a thread has spent; counted only where the budget has a limit for threads."""
        purse = self._threads.get(thread_id)
        return Spent() if purse is None else purse.spent

    def forget(self, thread_id: str | None) -> None:
        """Forget a thread that is over; the thread starts anew if it comes back."""
        with self._lock:
            self._threads.pop(thread_id, None)

    def __enter__(self) -> Self:
        """Count all that is spent in the block, also by tasks and by LangChain's threads that begin in it."""
        _active.set((*_active.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active = list(_active.get())
        for place in range(len(active) - 1, -1, -1):
            if active[place] is self:
                del active[place]
                break
        _active.set(tuple(active))

    # -- for who sends -----------------------------------------------------------------------------------

    def reserve(self, most: Cost, thread_id: str | None) -> Reservation:
        """Set aside what a request could cost.

        Args:
            most: with its whole output limit.
            thread_id: of the conversation.

        Raises:
            BudgetExceeded: that is more than is left.
            ConfigurationError: the budget is in US dollars, and no price is known.
        """
        if most.usd is None and not self._limits.keys().isdisjoint(("usd", "thread_usd")):
            raise ConfigurationError(
                "a budget in US dollars needs the model's price on this host, which is not recorded: use "
                "Budget(tokens=...), or add the price with refrase_integrations.kimi.catalogue.register_model"
            )
        with self._lock:
            wanted = self._expected(most)
            purses = [("", self._all)]
            if self._of_threads:
                purses.append(("thread_", self._threads.setdefault(thread_id, _Purse())))
            for prefix, purse in purses:
                self._check(prefix, purse, wanted)
            for _, purse in purses:
                purse.tokens, purse.usd = purse.tokens + wanted.tokens, purse.usd + (wanted.usd or 0.0)
        return Reservation(self, [purse for _, purse in purses], wanted)

    @property
    def _of_threads(self) -> bool:
        return not self._limits.keys().isdisjoint(("thread_usd", "thread_tokens"))

    def _expected(self, most: Cost) -> Cost:
        if self._rule == "worst" or not self._longest or self._longest >= most.output:
            return most
        # The price of a token is not known here: input costs at most what output does.
        usd = None if most.usd is None else most.usd * (most.input + self._longest) / most.tokens
        return Cost(most.input, self._longest, usd)

    def _check(self, prefix: str, purse: _Purse, wanted: Cost) -> None:
        detail = f"{wanted.input:,} input and up to {wanted.output:,} output tokens"
        for unit, spent, reserved, needed in (
            ("usd", purse.spent.usd, purse.usd, wanted.usd or 0.0),
            ("tokens", purse.spent.tokens, purse.tokens, wanted.tokens),
        ):
            limit = self._limits.get(prefix + unit)
            if limit is not None and spent + reserved + needed > limit:
                raise BudgetExceeded(
                    prefix + unit, limit=limit, spent=spent, reserved=max(reserved, 0), needed=needed, detail=detail
                )

    def _settle(self, reservation: Reservation, cost: Cost | None) -> None:
        with self._lock:
            for purse in reservation.purses:
                purse.tokens -= reservation.wanted.tokens
                purse.usd -= reservation.wanted.usd or 0.0
            if cost is None:
                return
            self._longest = max(self._longest, cost.output)
            for purse in reservation.purses:
                before = purse.spent
                purse.spent = Spent(
                    before.requests + 1,
                    before.tokens + cost.tokens,
                    round(before.usd + (cost.usd or 0.0), 10),
                    add_usage(before.usage, cost.usage),
                )


@dataclass
class Reservation:
    """What one running request has set aside."""

    budget: Budget
    purses: list[_Purse]
    wanted: Cost

    def settle(self, cost: Cost | None) -> None:
        """The request has ended, at this cost; None: it never left. To be called once."""
        self.budget._settle(self, cost)


def active() -> tuple[Budget, ...]:
    """Return the budgets of the ``with`` blocks around this call."""
    return _active.get()


_active: ContextVar[tuple[Budget, ...]] = ContextVar("refrase_budgets", default=())


def _restored(
    limits: dict[str, Any],
    rule: Literal["worst", "expected"],
    spent: Spent,
    threads: dict[str | None, Spent],
    long: int,
) -> Budget:
    budget = Budget(**limits, rule=rule)
    budget._all.spent, budget._longest = spent, long
    budget._threads = {thread: _Purse(one) for thread, one in threads.items()}
    return budget
