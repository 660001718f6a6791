"""Tables with a history of loads, carried out or written into the ledger, and what the tuner says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.access.addresses import connect
from flows.kinds.postgres import Database, Table
from flows.operations.tuning.advise import Advice, Scope, advise
from flows.operations.tuning.applying import Applied, apply
from flows.operations.tuning.evaluating import evaluate
from flows.operations.tuning.recommendation import Recommendation
from flows.publish.strategy import strategy_of
from flows.state.tunings import Tuning, tunings
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table
from tests.publish.two_ends import TwoEnds
from tests.sessions import take_over_sessions

ROWS = 12_000
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: Before what a test loads itself.
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
#: A load, as the ledger has it.
LOAD = """
insert into ops.loads (run_id, source_system, table_name, strategy, status, started_at, finished_at, rows_read,
    rows_inserted, rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, bytes, volume)
values (%s, 'shop', %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, %s, %s, 'small')
"""


@dataclass(frozen=True)
class Tuned(TwoEnds):
    """Both ends, and the tuner. `keeps`: loads take over each other's sessions; what they did to statistics is known
    once a session has ended."""

    keeps: bool = True

    def declared(self, *tables: Table, **options: Any) -> Database:
        return Database("shop", connection="shop", tables=tables, **options)

    async def loads(self, table: Table, times: int = 1, change: str = "") -> None:
        """So many loads, each after a change. `{n}` in it is another number each time."""
        if self.keeps:
            take_over_sessions()
        for _ in range(times):
            if change:
                ((number,),) = self.raw("select count(*) from ops.loads")
                self.source(change.replace("{n}", str(number)))
            await load_table(self.warehouse_address, self.shop_address, self.declared(table), table)

    async def followed(self, table: Table, *changes: str, inserts: bool = False) -> None:
        """A first load and one after each change, of a table that the ledger has known for a while."""
        earlier, strategy = 8 - len(changes), strategy_of(table)
        new, old = (30, 0) if inserts else (0, 30)
        self.ledger(table.name, earlier, strategy=strategy, rows=ROWS, ending=YESTERDAY, inserted=new, changed=old)
        await self.loads(table)
        for change in changes:
            await self.loads(table, 1, change)

    def ledger(
        self,
        table: str,
        times: int,
        *,
        seconds: float = 60,
        ending: datetime = NOW,
        every: timedelta = HOUR,
        strategy: str = "merge",
        status: str = "published",
        rows: int = 100,
        changed: int = 1,
        inserted: int = 0,
        deleted: int = 0,
        size: int = 10**6,
        run: int | None = None,
    ) -> None:
        """Loads in the ledger, the last of which began at `ending`."""
        for number in reversed(range(times)):
            began = ending - every * number
            ended = began + timedelta(seconds=seconds)
            facts = [strategy, status, began, ended, rows, inserted, changed, rows - changed - inserted, deleted, size]
            self.raw(LOAD, [run, table, *facts])

    async def advice(
        self, *tables: Table, now: datetime | None = None, days: int = 30, source: Database | None = None
    ) -> Advice:
        """All that the tuner says, however little it gains."""
        async with connect(self.warehouse_address, side="warehouse") as connection:
            declared = source or self.declared(*tables)
            return await advise(connection, [declared], now or datetime.now(UTC), days, Scope("shop"), least=0)

    async def recommended(self, *tables: Table, **options: Any) -> dict[str, Recommendation]:
        """Recommendations by kind."""
        advice = await self.advice(*tables, **options)
        assert not advice.unasked
        return {each.kind: each for each in advice.recommendations}

    async def apply(self, chosen: Recommendation, *, owner: str | None = None, **options: Any) -> Applied:
        """Apply it as `night-shift`; `owner` is a role at the source."""
        at = None if owner is None else DatabaseConnection("shop", self.shop.url(owner))
        async with connect(self.warehouse_address, side="warehouse") as connection:
            now = options.pop("now", None) or datetime.now(UTC)
            return await apply(connection, chosen, "night-shift", now, owner=at, **options)

    async def evaluated(self, *sources: Database, now: datetime | None = None) -> Sequence[Tuning]:
        """All changes, after the verdicts were brought up to date."""
        async with connect(self.warehouse_address, side="warehouse") as connection:
            await evaluate(connection, sources, now or datetime.now(UTC))
            return await tunings(connection)
