"""Sessions that say whose they are, on a real PostgreSQL."""

import pytest

from flows.access.addresses import connect
from flows.access.sessions import pinned
from flows.observe import tracing
from flows.values.connection import DatabaseConnection
from flows.values.correlation import correlated, under_span
from tests.conftest import TestDatabase
from tests.observe.otlp import Collector

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
_ITSELF = (
    "select application_name || ': ' || query from pg_catalog.pg_stat_activity where pid = pg_catalog.pg_backend_pid() "
    "and query like '%pg_backend_pid%'"
)


async def test_the_server_sees_the_run_in_the_sessions_name_and_in_front_of_long_statements(
    warehouse: TestDatabase,
) -> None:
    address = DatabaseConnection("warehouse", warehouse.url("loader"))
    with correlated("run-7"), under_span(PARENT):
        async with connect(address, side="warehouse", application="medallion load shop.baskets") as session:
            seen = await session.fetchval(_ITSELF)
            short = await session.fetchval("select query from pg_catalog.pg_stat_activity where pid = pg_backend_pid()")
    assert seen.startswith("medallion load shop.baskets run-7: /*application='medallion',correlation_id='run-7',")
    assert f"traceparent='{PARENT}'*/ select application_name" in seen
    assert short.startswith("select query")
    async with connect(address, side="warehouse", application="medallion status") as session:
        assert (await session.fetchval(_ITSELF)).startswith("medallion status: select")


async def test_a_source_behind_a_pooler_gets_the_name_with_each_transaction(shop: TestDatabase) -> None:
    """Start-up parameters may be dropped there."""
    async with connect(DatabaseConnection("shop", shop.url("extractor")), side="source") as origin:
        with correlated("run-7"):
            begin = pinned(origin, "medallion read shop.baskets")
        async with origin.transaction():
            await origin.execute(begin)
            name = await origin.fetchval("select current_setting('application_name')")
    assert name == "medallion read shop.baskets run-7"


async def test_each_statement_is_a_span_without_values(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = DatabaseConnection("warehouse", warehouse.url("loader"))
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start()
        async with connect(address, side="warehouse") as session:
            await session.fetchval("select count(*) from ops.runs where scope = 'zqquark' and pipeline = $1", "zqquark")
            with pytest.raises(Exception, match="zqquark"):
                await session.execute("select 'zqquark'::integer")
        tracing.stop()
    (counted,) = collector.named("SELECT ops.runs")
    assert counted.attributes["db.query.text"] == "select count(*) from ops.runs where scope = ? and pipeline = $1"
    assert counted.attributes["db.system.name"] == "postgresql"
    assert counted.attributes["db.namespace"] == warehouse.name
    (failed,) = [each for each in collector.spans if each.failed]
    assert failed.attributes["db.response.status_code"] == "22P02"
    assert b"zqquark" not in b"".join(collector.bodies)
