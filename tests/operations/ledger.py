"""A ledger that is written by the test: loads and builds of any time, and the clocks of what the test declares."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.declare import Calendar, Freshness, Merge, Timestamp
from flows.declare.source import Source
from flows.kinds.postgres import Database, Table
from flows.operations.alerts import Condition
from flows.operations.checks.freshness import late
from flows.operations.freshness import Clocks

if TYPE_CHECKING:
    from asyncpg import Connection, Record

HOUR = timedelta(hours=1)
MONDAY = datetime(2026, 6, 15, tzinfo=UTC)


def source(*tables: Table, freshness: Freshness | None = None, schedule: str | None = None) -> Database:
    return Database("shop", connection="shop", tables=tables, freshness=freshness, schedule=schedule)


def table(name: str = "baskets", **declared: Any) -> Table:
    return Table(name, key="id", cursor=Timestamp("updated_at"), load=Merge(), **declared)


@dataclass
class Ledger:
    """A warehouse whose ledger is written by the test, and the check by a clock of the test's."""

    connection: Connection[Record]
    sources: Sequence[Source] = ()
    now: datetime = MONDAY
    calendars: Sequence[Calendar] = ()
    clocks: Clocks = field(init=False)

    def declare(self, *sources: Source, calendars: Sequence[Calendar] = ()) -> None:
        self.clocks = Clocks(sources, calendars)

    async def load(
        self,
        ended: datetime,
        table: str = "baskets",
        *,
        status: str = "published",
        rows: int = 0,
        strategy: str = "merge",
        source: str = "shop",
    ) -> None:
        """A load that took a minute."""
        await self.connection.execute(
            "insert into ops.loads (source_system, table_name, strategy, status, started_at, finished_at, rows_read, "
            "rows_inserted, rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted) "
            "values ($1, $2, $3, $4, $5::timestamptz - interval '1 min', $5, $6, $6, 0, 0, 0, 0, 0)",
            source,
            table,
            strategy,
            status,
            ended,
            rows,
        )

    async def build(self, ended: datetime, *, status: str = "done", models: dict[str, Any] | None = None) -> None:
        """A full build that took a minute, with models and what their meta says."""
        full = {"full_build": True} if status == "done" else {}
        run = await self.connection.fetchval(
            "insert into ops.runs (pipeline, status, started_at, finished_at, details) "
            "values ('transform', $1, $2::timestamptz - interval '1 min', $2, $3::text::jsonb) returning run_id",
            status,
            ended,
            json.dumps(full),
        )
        if models is not None:
            await self.connection.execute(
                "insert into ops.dbt_manifests values ($1, $2)",
                run,
                gzip.compress(json.dumps(manifest(models)).encode()),
            )

    async def late(self, now: datetime | None = None, active: Sequence[str] | None = None) -> list[Condition]:
        return await late(self.connection, now or self.now, active=active, clocks=self.clocks)

    async def told(self, now: datetime | None = None) -> list[tuple[str, str, str]]:
        """Name, subject and severity of what is told."""
        return [(one.name, one.subject, one.severity) for one in await self.late(now)]


def manifest(models: dict[str, Any]) -> dict[str, Any]:
    """Models of gold on raw_shop.baskets, with their meta."""
    nodes = {
        f"model.m.{name}": {
            "unique_id": f"model.m.{name}",
            "name": name,
            "resource_type": "model",
            "schema": "gold",
            "fqn": ["m", "gold", name],
            "original_file_path": f"models/gold/{name}.sql",
            "depends_on": {"nodes": ["source.m.shop.baskets"]},
            "config": {"meta": meta},
        }
        for name, meta in models.items()
    }
    raw = {
        "unique_id": "source.m.shop.baskets",
        "name": "baskets",
        "identifier": "baskets",
        "resource_type": "source",
        "schema": "raw_shop",
    }
    return {"nodes": nodes, "sources": {"source.m.shop.baskets": raw}}
