"""An alert about a table that nobody declares any more is over, as no load will ever resolve it."""

from __future__ import annotations

from flows.declare import Replace
from flows.kinds.postgres import Database, Table
from flows.operations.checks.withdrawn import resolve_withdrawn
from tests.conftest import TestDatabase
from tests.operations.alerting import Desk, condition, desk

SHOP = Database("shop", connection="shop", tables=[Table("baskets", key="id", load=Replace())])


async def failed(it: Desk, source: str, table: str, hours: int) -> None:
    await it.connection.execute(
        "insert into ops.loads (source_system, table_name, status, strategy, started_at) values "
        "($1, $2, 'running', 'initial', now() - $3 * '1 h'::interval)",
        source,
        table,
        hours,
    )
    await it.connection.execute("update ops.loads set status = 'failed', error = 'why' where status = 'running'")
    await it.connection.execute(
        "update ops.alerts set last_at = now() - $2 * '1 h'::interval where subject = $1", f"{source}.{table}", hours
    )


async def test_alerts_of_withdrawn_tables_and_sources_are_resolved_and_no_others(warehouse: TestDatabase) -> None:
    async with desk(warehouse) as it:
        await failed(it, "shop", "baskets", 30)  # still declared
        await failed(it, "shop", "withdrawn", 30)
        await failed(it, "gone", "orders", 30)
        await failed(it, "elsewhere", "orders", 2)  # loaded today, by workers with other code than this watch
        await it.connection.execute(
            "insert into ops.alerts (name, subject, cause, severity, what, fix, last_at) select 'check failed', s, s, "
            "'error', 'why', 'fix', now() - '30 h'::interval from unnest(array['raw_gone.orders', 'gold.dim_x']) as s"
        )
        await it.found(condition("gone.orders", source="gone", table="orders"))  # a check resolves its own

        assert await resolve_withdrawn(it.connection, [SHOP]) == []

        assert sorted(await it.names()) == [
            "check failed gold.dim_x",
            "late gone.orders",
            "load failed elsewhere.orders",
            "load failed shop.baskets",
        ]
        (one,) = await it.connection.fetch("select distinct resolution from ops.alerts where resolved_at is not null")
        assert one["resolution"] == "no longer declared"
