"""The budgets of a running load: its table's, its source's and its run's. See `flows.declare.budget`.

A source's and a run's are shared by the loads of the run: `shared_budgets` opens them, and each load within finds them.
Spending is counted at commits and pages, so tables that are loaded in parallel exceed a shared budget by one of these
each at most.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from flows.declare.budget import Budget
from flows.declare.source import Loadable, Source
from flows.values.errors import BudgetReached, ConfigurationError, OverBudget
from flows.values.price import Price
from flows.values.settings import settings


@dataclass(slots=True)
class Allowance:
    """A budget, and what was spent of it. `scope` is what it is for: `the run`, `source shop`, `shop.baskets`.

    `of_requests`: what its requests cost, each at the price of its source.
    """

    scope: str
    budget: Budget
    rows: int = 0
    size: int = 0
    requests: int = 0
    of_requests: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.budget.money is not None and not Price.declared():
            raise ConfigurationError(
                f"the budget of {self.scope} is in money, and no price is set",
                where=self.scope,
                fix="set MEDALLION_PRICE_PER_GB, MEDALLION_PRICE_PER_THOUSAND_REQUESTS or MEDALLION_PRICE_PER_HOUR",
            )

    @property
    def _cost(self) -> float:
        return Price.declared().cost(self.size, seconds=time.monotonic() - self.began) + self.of_requests

    @property
    def size_left(self) -> int | None:
        """Bytes until it is used up, by a limit of them or by what they cost; None without such a limit."""
        bounds = [] if self.budget.size is None else [self.budget.size - self.size]
        price = Price.declared().per_gb
        if self.budget.money is not None and price:
            bounds.append(int((self.budget.money - self._cost) / price * 1e9))
        return min(bounds, default=None)

    def exhausted(self, rows: int = 1, size: int = 1) -> str | None:
        """What was reached, in words: `1,000,000 rows`; None if so many rows and bytes are left, and time and money."""
        budget = self.budget
        if budget.rows is not None and self.rows + rows > budget.rows:
            return f"{budget.rows:,} rows"
        if budget.size is not None and self.size + size > budget.size:
            return _bytes(budget.size)
        if budget.minutes is not None and time.monotonic() - self.began >= budget.minutes * 60:
            return f"{budget.minutes:g} min"
        if budget.money is not None and (self._cost >= budget.money or size > (self.size_left or size)):
            return _money(budget.money)
        return None

    def too_small_for(self, rows: int | None, size: int | None, *, left: bool) -> str | None:
        """The limit that a read of so many rows and bytes would exceed; of what is left of it, or of all."""
        budget, of_rows, of_size = self.budget, self.rows * left, self.size * left
        if budget.rows is not None and rows is not None and of_rows + rows > budget.rows:
            return f"{budget.rows:,} rows"
        if budget.size is not None and size is not None and of_size + size > budget.size:
            return _bytes(budget.size)
        if budget.money is not None and size is not None and Price.declared().cost(of_size + size) > budget.money:
            return _money(budget.money)
        return None


_unlimited: ContextVar[bool] = ContextVar("no budgets", default=False)
_shared: ContextVar[tuple[Allowance, ...]] = ContextVar("budgets of the run", default=())


@contextmanager
def shared_budgets(*budgets: tuple[str, Budget | None]) -> Iterator[tuple[Allowance, ...]]:
    """Open budgets, by what they are for, that all loads within share; with those that are open already."""
    opened = tuple(Allowance(scope, budget) for scope, budget in budgets if budget is not None)
    token = _shared.set(_shared.get() + opened)
    try:
        yield _shared.get()
    finally:
        _shared.reset(token)


@contextmanager
def without_budgets() -> Iterator[None]:
    """Loads within have no budget: a person has seen what they read."""
    token = _unlimited.set(True)
    try:
        yield
    finally:
        _unlimited.reset(token)


@dataclass(slots=True)
class Spending:
    """What a load spends, of every budget that applies to it.

    `rows`, `size` and `requests` are those of this load. `expected`: how many rows it would read without a budget, if
    known. `resumes`: it goes on with a read in chunks that stopped at a budget, whatever the budgets are now.
    """

    where: str
    allowances: tuple[Allowance, ...] = ()
    rows: int = 0
    size: int = 0
    requests: int = 0
    expected: int | None = None
    resumes: bool = False
    _reserved: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, source: Source, table: Loadable) -> Spending:
        """The budgets of a load that begins: the table's own, and the shared ones."""
        where, shared = f"{source.name}.{table.name}", _shared.get()
        if _unlimited.get():
            return cls(where)
        own = [] if table.budget is None else [Allowance(where, table.budget)]
        scope = f"source {source.name}"
        if source.budget is not None and scope not in {one.scope for one in shared}:
            own.append(Allowance(scope, source.budget))  # a load by itself
        mine = tuple(one for one in shared if not one.scope.startswith("source ") or one.scope == scope)
        return cls(where, (*own, *mine))

    def spend(self, rows: int = 0, size: int = 0, requests: int = 0) -> None:
        """Count what was read."""
        self.rows += rows
        self.size += size
        self.requests += requests
        self._charge(rows, size)
        for one in self.allowances:
            one.requests += requests
            one.of_requests += Price.declared().cost(requests=requests, source=self.where.partition(".")[0])

    def is_exhausted(self) -> bool:
        """Whether a budget is used up."""
        return any(one.exhausted() for one in self.allowances)

    @property
    def rows_left(self) -> int | None:
        """Rows until the first budget is used up; None without a limit of rows."""
        left = [one.budget.rows - one.rows for one in self.allowances if one.budget.rows is not None]
        return max(0, min(left)) if left else None

    @property
    def size_left(self) -> int | None:
        """Bytes until the first budget is used up; None without a limit of them."""
        left = [left for one in self.allowances if (left := one.size_left) is not None]
        return max(0, min(left)) if left else None

    @property
    def has_limits(self) -> bool:
        """Whether any budget applies."""
        return bool(self.allowances)

    def refuse_if_exhausted(self) -> None:
        """Before anything is read.

        Raises:
            BudgetReached: other loads have used a shared budget up.
        """
        for one in self.allowances:
            if (reached := one.exhausted()) is not None:
                raise self._not_read(one, reached)

    def admit(self, rows: int | None, size: int | None = None) -> None:
        """Before a read that cannot stop in the middle, of so many rows and bytes (None: not known).

        What it needs is reserved, so that loads in parallel do not count on it.

        Raises:
            OverBudget: it needs more than a budget has, so it would never fit.
            BudgetReached: it needs more than other loads have left of a shared budget.
        """
        for one in self.allowances:
            if (limit := one.too_small_for(rows, size, left=False)) is not None:
                raise OverBudget(
                    f"the load needs more than its budget of {limit} (of {one.scope}), and it cannot stop in the "
                    "middle: it is read and published as one",
                    where=self.where,
                    fix="raise the budget; or let the load be divided: docs/budgets.md says which loads can be",
                )
            if (limit := one.too_small_for(rows, size, left=True)) is not None:
                raise self._not_read(one, limit)
        self.reserve(rows or 0, size or 0)

    def reserve(self, rows: int, size: int) -> None:
        """Count what is about to be read, so that loads in parallel do not count on it; negative: give it back."""
        self._reserved = (self._reserved[0] + rows, self._reserved[1] + size)
        self._charge(rows, size)

    def settle(self, rows: int, size: int) -> None:
        """Count what was read, in place of all that was reserved for it."""
        self.release()
        self.spend(rows, size)

    def release(self) -> None:
        """Give back what was reserved and not read."""
        self.reserve(-self._reserved[0], -self._reserved[1])

    def _charge(self, rows: int, size: int) -> None:
        for one in self.allowances:
            one.rows += rows
            one.size += size

    def reached(self, following: str, rows: int = 1, size: int = 1) -> BudgetReached:
        """The end of a load that stops here, since less than so many rows and bytes are left. `following` says where
        the next run goes on."""
        one, limit = next((one, limit) for one in self.allowances if (limit := one.exhausted(rows, size)) is not None)
        total = f" of about {self.expected:,}" if self.expected is not None and self.expected > self.rows else ""
        return BudgetReached(
            f"stopped at its budget of {limit} (of {one.scope}): {self.rows:,}{total} rows were read and are kept; "
            f"the next run goes on {following}",
            where=self.where,
            fix="none needed: the next run goes on; if the table never catches up, raise the budget or run more often",
        )

    def exceeded(self) -> str | None:
        """Why more was read than allowed, once a load has ended that could be checked only afterwards."""
        for one in self.allowances:
            budget = one.budget
            over_rows = budget.rows is not None and one.rows > budget.rows
            over_size = budget.size is not None and one.size > budget.size
            if over_rows or over_size:
                read = f"{_bytes(one.size)} instead of {_bytes(budget.size or 0)}"
                if over_rows:
                    read = f"{one.rows:,} instead of {budget.rows:,} rows"
                return f"over the budget of {one.scope}: {read}, since this load could be checked only afterwards"
        return None

    def _not_read(self, one: Allowance, limit: str) -> BudgetReached:
        return BudgetReached(
            f"not read: too little is left of the budget of {one.scope} ({limit}); the next run reads it first",
            where=self.where,
            fix="none needed: the next run reads it; if it never does, raise the budget or run more often",
        )


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,} bytes"


def _money(amount: float) -> str:
    return f"{amount:,.2f} {settings().price_currency}"
