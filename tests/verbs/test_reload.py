"""A full reload that a person requests: of the rows, or of the raw table with them."""

from collections.abc import Iterator

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.state import table_locks
from flows.values.errors import DeclarationError, LoadLocked
from flows.values.settings import settings
from flows.verbs.reload import request_reload
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

PRICES = Table("prices", key="id", cursor=Timestamp("changed_at"), load=Merge())
NOTES = Table("notes", cursor=Sequence("id"), load=Append())
SHOP = Database("shop", connection="shop", tables=[PRICES, NOTES])


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    settings.cache_clear()
    ends = TwoEnds(warehouse, shop)
    ends.source("create table prices (id int primary key, price int, changed_at timestamptz default now())")
    ends.source("create table notes (id int generated always as identity, note text)")
    ends.source("insert into prices (id, price) select n, n from generate_series(1, 10) as n")
    ends.source("insert into notes (note) values ('one'), ('two')")
    ends.source("grant select on all tables in schema public to public")
    yield ends
    settings.cache_clear()


async def test_the_next_load_of_each_named_table_reads_all_rows_and_says_why(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    assert "requested" not in await ends.reason(PRICES)

    await request_reload(["shop.prices"], "ada")

    assert "requested by `medallion reload`" in await ends.reason(PRICES)
    result = await ends.load(PRICES)
    assert (result.strategy, result.counts.rows_read, result.counts.changed) == ("reload", 10, 0)
    assert (await ends.load(PRICES)).strategy == "merge"


async def test_a_recreated_table_has_the_types_of_now_and_the_former_one_is_kept(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices alter column price type text")

    (done,) = await request_reload(["shop.prices"], "ada", recreate=True)
    result = await ends.load(PRICES)

    assert (result.strategy, result.counts.rows_inserted) == ("initial", 10)
    assert ends.raw("select pg_typeof(price)::text from raw_shop.prices limit 1") == [("text",)]
    assert done.kept_as is not None
    schema, name = done.kept_as.split(".")
    assert ends.raw(f'select count(*), min(pg_typeof(price)::text) from "{schema}"."{name}"') == [(10, "integer")]


async def test_what_would_double_rows_or_do_nothing_is_refused_with_the_fix(ends: TwoEnds) -> None:
    with pytest.raises(DeclarationError, match="never loaded") as early:
        await request_reload(["shop.notes"], "ada")
    assert "medallion run shop.notes" in early.value.fix
    await ends.load(NOTES)

    with pytest.raises(DeclarationError, match="twice") as keyless:
        await request_reload(["shop.notes"], "ada")

    assert "--recreate" in keyless.value.fix
    await request_reload(["shop.notes"], "ada", recreate=True)
    assert (await ends.load(NOTES)).counts.rows_inserted == 2


async def test_a_table_is_not_taken_from_under_a_load(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    async with connect(ends.warehouse_address, side="warehouse") as loading:
        assert await table_locks.lock_table(loading, "shop", "prices")
        with pytest.raises(LoadLocked) as refused:
            await request_reload(["shop.prices"], "ada", recreate=True)
    assert refused.value.retryable
    assert ends.raw("select count(*) from raw_shop.prices") == [(10,)]
