"""A check: a question that is asked every so often, and what it may use to find the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.operations.prefect_facts import PrefectFacts

#: What a check cannot do without. While it is away, the check is left out: that it is away is an alert of its own.
Need = Literal["warehouse", "prefect"]
#: How long a check may take before it counts as one that hangs.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Round:
    """What is there in one round. `now` is this machine's clock, `elapsed` its monotonic one, in seconds."""

    now: datetime
    elapsed: float
    warehouse: Connection[Record] | None = None
    prefect: PrefectFacts | None = None
    #: Gives the connection URLs of the warehouse and of sources, by name.
    urls: Callable[[], Awaitable[dict[str, str]]] | None = None

    @property
    def connection(self) -> Connection[Record]:
        """The warehouse, for checks that need it."""
        assert self.warehouse is not None
        return self.warehouse

    @property
    def facts(self) -> PrefectFacts:
        """What the Prefect server says, for checks that need it."""
        assert self.prefect is not None
        return self.prefect


@dataclass(frozen=True, slots=True)
class Check:
    """A question. `look` returns what is wrong now; what it returned before and does not any more is over."""

    name: str
    look: Callable[[Round], Awaitable[list[Condition]]]
    needs: frozenset[Need] = field(default_factory=frozenset)
    every: timedelta = timedelta()
    patience: float = PATIENCE
