"""The row limit for development: a limited load is never mistaken for a full one, and loses nothing for it."""

from typing import Any

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Overwrite, Replace, Sequence, Timestamp, TransactionId
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.kind import Postgres
from flows.kinds.registry import kind_of
from flows.publish.session import LoadResult
from flows.render.freshness import last_load
from flows.state import ledger
from flows.state.overview import read_overview
from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.row_limit import row_limit
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.nightly import each_once, nightly
from tests.publish.two_ends import TwoEnds

SMALL = {"medium_load_mb": 0.001, "chunk_min_mb": 0.001, "chunk_max_mb": 0.004}

WAYS: dict[str, dict[str, Any]] = {
    "merge by time": {"key": "id", "cursor": Timestamp("at"), "load": Merge(), "deletes": True},
    "merge by transaction": {"key": "id", "cursor": TransactionId(), "load": Merge()},
    "merge of all": {"key": "id", "load": Merge(), "deletes": True},
    "replace": {"key": "id", "load": Replace()},
    "replace without key": {"load": Replace()},
    "append": {"key": "id", "cursor": Sequence("id"), "load": Append()},
    "append without key": {"cursor": Sequence("id"), "load": Append()},
    "overwrite": {"key": "id", "load": Overwrite(by="at", every="month")},
    "overwrite without key": {"load": Overwrite(by="at", every="month")},
}
KEYED = [name for name, declared in WAYS.items() if "key" in declared]
KEYLESS = [name for name in WAYS if name not in KEYED]


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table sales (id int primary key, amount int, at timestamptz not null);"
        "insert into sales select n, n, now() - n * interval '9 days' from generate_series(1, 200) as n;"
        "grant select on sales to medallion_extractor"
    )
    return two


def sales(way: str, **declared: Any) -> Table:
    return Table("sales", **(WAYS[way] | declared))


async def limited(ends: TwoEnds, table: Table, limit: int = 20) -> LoadResult:
    with setting(row_limit=limit):
        return await ends.load(table)


async def planned(ends: TwoEnds, table: Table) -> Any:
    source = Database("shop", connection="shop", tables=[table])
    kind = kind_of(source)
    async with (
        connect(ends.warehouse_address, side="warehouse") as warehouse,
        connect(ends.shop_address, side="source") as origin,
    ):
        plan = await kind.plan(warehouse, origin, source, table)
        return plan.plan, await kind.waiting(warehouse, origin, plan)


def rows(ends: TwoEnds) -> int:
    return int(ends.raw("select count(*) from raw_shop.sales where _deleted_at is null")[0][0])


def image(ends: TwoEnds) -> list[tuple[Any, ...]]:
    return ends.raw("select s::text from raw_shop.sales as s order by 1")


def stored(ends: TwoEnds) -> list[tuple[Any, ...]]:
    return ends.raw("select cursor_value, pending_value, identity - 'source' from ops.cursors")


@pytest.mark.parametrize(("way", "size"), each_once(WAYS, ["small", "large"]))
async def test_a_sample_is_followed_by_a_full_load(ends: TwoEnds, way: str, size: str) -> None:
    sizes = SMALL if size == "large" else {}
    ends.source("analyze sales")
    table = sales(way)
    with setting(**sizes):
        first = await limited(ends, table)
        assert (first.strategy, first.counts.reconciliation, first.counts.rows_read) == ("limited", "limited", 20)
        assert "limited to 20 rows" in str(first.warning)
        assert rows(ends) == 20
        # Rows that the source has no more are not left behind by the sample.
        ends.source(
            "update sales set amount = amount + 1; delete from sales where id in (select id from sales limit 3)"
        )

        result = await ends.load(table)

        assert result.counts.reconciliation == "match"
        assert result.warning is None
        assert ends.same("sales", "id, amount, at")
        again = await ends.load(table)
        assert (again.counts.changed, again.counts.reconciliation) == (0, "match")
        assert ends.same("sales", "id, amount, at")


# One of each strategy, with a key and without.
@pytest.mark.parametrize(
    "way",
    [
        *("merge by time", "replace", "append without key", "overwrite without key"),
        *nightly("merge by transaction", "merge of all", "replace without key", "append", "overwrite"),
    ],
)
async def test_a_sample_may_be_taken_again_with_another_limit(ends: TwoEnds, way: str) -> None:
    table = sales(way)
    for limit in (20, 5, 40):
        await limited(ends, table, limit)
        held = ends.raw("select count(*), count(distinct id), count(_deleted_at) from raw_shop.sales")[0]
        assert held[0] == held[1] >= limit
        assert held[2] == 0
    await ends.load(table)
    assert ends.same("sales", "id, amount, at")


@pytest.mark.parametrize("way", KEYED)
async def test_beside_a_full_load_nothing_is_deleted_and_the_cursor_stays(ends: TwoEnds, way: str) -> None:
    table = sales(way)
    await ends.load(table)
    before = stored(ends)
    ends.source(
        "delete from sales where id <= 50; update sales set amount = -1, at = now() where id between 51 and 100;"
        "insert into sales select n, n, now() from generate_series(201, 300) as n"
    )

    result = await limited(ends, table, 10)

    assert (result.counts.rows_read, result.counts.rows_deleted, result.counts.reconciliation) == (10, 0, "limited")
    assert ends.raw("select count(*) from raw_shop.sales where id <= 50 and _deleted_at is null") == [(50,)]
    assert stored(ends) == before
    counts = (await ends.load(table)).counts
    if way != "append":
        assert counts.reconciliation == "match" if table.deletes or isinstance(table.load, Replace) else True
        assert ends.raw("select count(*) from raw_shop.sales where id > 50 and _deleted_at is null") == [(250,)]
        assert ends.raw("select count(*) from raw_shop.sales where amount = -1") == [(50,)]


@pytest.mark.parametrize("way", KEYLESS)
async def test_beside_a_full_load_a_table_without_key_is_refused(ends: TwoEnds, way: str) -> None:
    table = sales(way)
    await ends.load(table)
    before = image(ends)

    with pytest.raises(DeclarationError, match="raw has a full load") as refused:
        await limited(ends, table)

    assert image(ends) == before
    assert "--limit" in refused.value.fix


async def test_a_new_column_beside_a_full_load_is_left_to_the_next_full_load(ends: TwoEnds) -> None:
    """Once raw had the column, nothing would say that older rows lack its values."""
    table = sales("merge by time")
    await ends.load(table)
    ends.source("alter table sales add region text default 'north'; update sales set at = now() where id = 1")

    await limited(ends, table)
    result = await ends.load(table)

    assert result.strategy == "reload"
    assert ends.raw("select count(*) from raw_shop.sales where region = 'north'") == [(200,)]


async def test_a_limited_load_hides_no_earlier_result(ends: TwoEnds) -> None:
    """A full load that found rows missing asks for a reload; a limited one in between must not answer that."""
    table = sales("merge by time")
    await ends.load(table)
    ends.raw("delete from raw_shop.sales where id in (150, 151)")
    assert (await ends.load(table)).counts.reconciliation == "missing"

    await limited(ends, table)

    assert "missing in raw" in await ends.reason(table)
    await ends.load(table)
    assert ends.same("sales", "id, amount, at")


async def test_a_requested_reload_is_not_answered_by_a_limited_load(ends: TwoEnds) -> None:
    table = sales("merge by time")
    await ends.load(table)
    ends.raw("insert into ops.reload_requests (source_system, table_name, requested_by) values ('shop', 'sales', 'me')")
    await limited(ends, table)
    assert "requested" in await ends.reason(table)


@pytest.mark.parametrize("way", ["merge by time", "replace", "append without key"])
async def test_a_plan_says_what_a_limited_load_would_do(ends: TwoEnds, way: str) -> None:
    table = sales(way)
    with setting(row_limit=20):
        plan, waiting = await planned(ends, table)
    assert (plan.strategy, plan.reason, waiting.rows) == ("limited", "a sample of 20 rows at most", 20)
    assert "limited to 20 rows for development: not a full load" in str(plan.warning)

    await limited(ends, table)
    plan, waiting = await planned(ends, table)
    assert waiting.rows == 200
    assert plan.reason == "raw has a sample of 20 rows at most: all rows are read"


async def test_a_comparison_of_a_sample_says_that_it_is_one(ends: TwoEnds) -> None:
    table = sales("merge by time")
    await limited(ends, table)
    source = Database("shop", connection="shop", tables=[table])

    found = await compare_table(ends.warehouse_address, ends.shop_address, source, table)

    assert (found.result, found.note) == ("not_compared", "limited: raw has a sample of 20 rows at most")
    with setting(row_limit=20), pytest.raises(DeclarationError, match="a repair reads all rows"):
        await compare_table(ends.warehouse_address, ends.shop_address, source, table, repair=True)


@pytest.mark.parametrize("full_before", [False, True])
async def test_status_and_freshness_say_that_a_load_was_limited(ends: TwoEnds, full_before: bool) -> None:
    table = sales("merge by time")
    if full_before:
        await ends.load(table)
        ends.raw("update ops.loads set finished_at = finished_at - interval '5 hours'")
    await limited(ends, table)

    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        (line,) = (await read_overview(warehouse)).tables
        age = await warehouse.fetchval(
            last_load("shop", "sales", "extract(epoch from now() - max(finished_at)) / 3600")
        )
        assert await ledger.was_read_whole(warehouse, "shop", "sales") is full_before

    assert line["reconciliation"] == "limited"
    assert (line["freshness_seconds"] or 0) > 3600 if full_before else line["freshness_seconds"] is None
    assert (age > 4) is full_before


async def test_a_kind_that_reads_everything_refuses_a_limit(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Postgres, "heeds_limit", False)
    with pytest.raises(DeclarationError, match="a row limit of 20 is set"):
        await limited(ends, sales("merge by time"))


async def test_production_refuses_a_limit(ends: TwoEnds) -> None:
    with setting(row_limit=20, environment="production"):
        with pytest.raises(ConfigurationError, match="this environment is production") as refused:
            await ends.load(sales("merge by time"))
        assert "unset MEDALLION_ROW_LIMIT" in refused.value.fix
        with pytest.raises(ConfigurationError, match="this environment is production"):
            await planned(ends, sales("merge by time"))
    assert ends.raw("select to_regclass('raw_shop.sales')") == [(None,)]


async def test_a_limit_above_the_number_of_rows_is_still_no_full_load(ends: TwoEnds) -> None:
    result = await limited(ends, sales("merge by time"), 1000)
    assert (result.counts.rows_read, result.counts.reconciliation) == (200, "limited")
    assert "all rows are read" in await ends.reason(sales("merge by time"))


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with setting(row_limit=limit), pytest.raises(ConfigurationError, match="MEDALLION_ROW_LIMIT"):
        row_limit()
