"""Which tables follow: those whose next load brings changes of the log and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog import position
from flows.kinds.changelog.changes import Wanted
from flows.kinds.changelog.plan import CapturePlan, as_copied, plan_captured
from flows.kinds.postgres.reading import settled
from flows.landing.table import LANDING_SCHEMA, Target
from flows.publish.budget import Spending
from flows.values.identifiers import qualified
from flows.values.plan import KeySet, LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The suffix of a table of changes while a log is followed.
INBOX = "__f"
_FACTS = (Path(__file__).parent / "facts.sql").read_text(encoding="utf-8")


@dataclass(slots=True)
class Followed:
    """A table that follows. `stored` is its position in the warehouse, `reached` that of the last read.

    `facts`: what the source's catalogue says of it, as long as the plan holds. `keys`: the source's at `stored`, once
    `keys_known`. `batch_id` and `counts` are those of the stretch under way (0: none), which began at `began`;
    `changed`: it has counted changes. `moved`: when `stored` was stored.
    """

    table: Table
    target: Target
    planned: CapturePlan
    facts: str
    stored: int
    reached: int
    spending: Spending
    keys: KeySet | None = None
    keys_known: bool = False
    batch_id: int = 0
    counts: LoadCounts = field(default_factory=LoadCounts)
    changed: bool = False
    began: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    @property
    def oid(self) -> int:
        """The table's oid at the source."""
        return self.planned.captured.id

    @property
    def inbox(self) -> str:
        """The table of its changes of a cut."""
        return qualified(LANDING_SCHEMA, self.wanted.inbox)

    @property
    def wanted(self) -> Wanted:
        """Which of its changes the next read brings."""
        return Wanted(self.target, self.oid, self.reached, INBOX)


async def enter(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table, publication: str
) -> Followed | None:
    """The table as it follows from now on; None if it needs an ordinary load.

    Raises:
        MedallionError: it cannot be planned; an ordinary load says so in the ledger.
    """
    target = Target(source.name, table.name, source.raw_schema)
    await warehouse.execute(f"drop table if exists {qualified(LANDING_SCHEMA, target.landing_name + INBOX)}")
    if await _is_locked(origin, table):
        return None
    async with settled(origin, source, as_copied(table)):
        planned = await plan_captured(warehouse, origin, source, table)
        facts = await read_facts(origin, [planned.captured.id], publication)
    if planned.how != "changes" or planned.rewritten or planned.batch.changes or planned.position is None:
        return None
    found = facts.get(planned.captured.id, "")
    at, keys = planned.position, position.keys_of(planned.stored)
    return Followed(
        table, target, planned, found, at, at, Spending.of(source, table), keys=keys, keys_known=keys is not None
    )


async def _is_locked(origin: Connection[Record], table: Table) -> bool:
    """Whether a migration holds the table: its load waits for that, and the other tables do not."""
    try:
        async with origin.transaction(readonly=True):
            await origin.execute(f"lock table {table.relation} in access share mode nowait")
    except asyncpg.LockNotAvailableError:
        return True
    except asyncpg.PostgresError:
        return False  # whatever it is, planning says it better
    return False


async def read_facts(origin: Connection[Record], oids: Iterable[int], publication: str) -> Mapping[int, str]:
    """What the source's catalogue says of the tables now, by oid. Without the publication: nothing."""
    return {row["id"]: row["facts"] for row in await origin.fetch(_FACTS, [*oids], publication)}
