"""The cursor of transaction ids: every row that changed, whoever wrote it and however late it was committed."""

import asyncio
import time
from dataclasses import replace

import psycopg
import pytest

from flows.declare import Append, Merge, TransactionId
from flows.kinds.postgres import Table
from flows.kinds.postgres import window as windows
from flows.values.errors import DeclarationError, SourceError
from flows.values.plan import CursorState, Window
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

TABLE = Table("readings", key="id", cursor=TransactionId(), load=Merge(), deletes=True)
KEPT = Table("readings", key="id", cursor=TransactionId(), load=Append())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table readings (id int primary key, v int);"
        "insert into readings select n, n from generate_series(1, 200) as n"
    )
    settle(two)
    return two


def settle(ends: TwoEnds, table: str = "readings") -> None:
    """Wait for transactions that are older than the table's rows: those of other tests' databases count, too."""
    for _ in range(200):
        (ended,) = ends.source(
            f"select pg_snapshot_xmin(pg_current_snapshot())::text::bigint > max(xmin::text::bigint) from {table}"
        )
        if ended[0]:
            return
        time.sleep(0.1)
    raise TimeoutError("a transaction has been open for 20 s")


def set_cursor(ends: TwoEnds, value: str) -> None:
    ends.raw("update ops.cursors set cursor_value = %s", [value])


def cursor(ends: TwoEnds) -> int:
    return int(ends.raw("select cursor_value from ops.cursors")[0][0])


async def test_only_rows_of_later_transactions_are_read_again(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.source("update readings set v = -v where id in (3, 4)")
    ends.source("delete from readings where id = 9")
    ends.source("insert into readings values (201, 201)")
    settle(ends)

    second, third = await ends.load(TABLE), await ends.load(TABLE)

    assert (second.counts.rows_read, second.counts.rows_deleted, second.counts.reconciliation) == (3, 1, "match")
    assert third.counts.rows_read == 0
    assert ends.same("readings", "id, v")


async def test_rows_committed_late_are_read_and_hold_the_cursor(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    with psycopg.connect(ends.shop.url("app")) as late:
        late.execute("insert into readings values (301, 1)")
        (own,) = late.execute("select pg_current_xact_id()::text").fetchone() or ("",)
        with late.transaction():  # a savepoint: its rows bear an id of their own
            late.execute("insert into readings values (302, 1)")
        for later in (303, 304):
            ends.source(f"insert into readings values ({later}, 1)")
            await ends.load(TABLE)
            # Other databases of the server may hold it further back.
            assert cursor(ends) <= int(own)
        late.commit()

    async with asyncio.timeout(60):
        await ends.load(TABLE)
        while cursor(ends) <= int(own):  # a transaction of another database is still open that is older
            await asyncio.sleep(0.1)
            await ends.load(TABLE)

    assert ends.same("readings", "id, v")


async def test_without_the_horizon_those_rows_would_be_lost(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = windows._transaction_window

    async def careless(connection: object, table: Table, state: CursorState) -> Window:
        """Remembers the newest transaction, as a cursor that takes the highest value does."""
        window = await honest(connection, table, state)  # type: ignore[arg-type]
        newest = await connection.fetchval("select pg_snapshot_xmax(pg_current_snapshot())::text")  # type: ignore[attr-defined]
        return replace(window, upper=newest, next=CursorState(newest, key=window.next.key))

    monkeypatch.setattr(windows, "_transaction_window", careless)
    await ends.load(TABLE)
    with psycopg.connect(ends.shop.url("app")) as late:
        late.execute("update readings set v = 1000 where id = 1")
        ends.source("update readings set v = 1000 where id = 2")
        await ends.load(TABLE)
        late.commit()

    await ends.load(TABLE)

    assert not ends.same("readings", "id, v")


async def test_a_prepared_transaction_holds_the_cursor(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.source("begin; insert into readings values (401, 1); prepare transaction 'readings'")
    try:
        ends.source("insert into readings values (402, 1)")
        await ends.load(TABLE)
    finally:
        ends.source("commit prepared 'readings'")

    result = await ends.load(TABLE)

    assert result.counts.rows_inserted == 1
    assert ends.same("readings", "id, v")


async def test_an_append_adds_new_rows_and_leaves_changed_ones_alone(ends: TwoEnds) -> None:
    await ends.load(KEPT)
    ends.source("update readings set v = -1 where id = 1")
    ends.source("insert into readings values (501, 1)")

    result = await ends.load(KEPT)

    assert (result.counts.rows_inserted, result.counts.rows_unchanged) == (1, 1)


async def test_ids_that_began_again_at_zero_are_still_later(ends: TwoEnds) -> None:
    """The counter of a test's cluster is far from its end, so the cursor is moved: a circle back, less a little."""
    await ends.load(TABLE)
    seen = cursor(ends)
    ends.source("update readings set v = -5 where id = 5")

    for circle, rows_read in ((2**32 - 10_000, 200), (2**32, 200), (2**33, 200)):
        set_cursor(ends, str(seen - circle))
        result = await ends.load(TABLE)
        assert result.counts.rows_read == rows_read
    assert ends.same("readings", "id, v")


@pytest.mark.parametrize(("stored", "row", "upcoming", "is_read"), [
    (2**32 - 3, 2**32 - 2, 2**32 + 9, True),
    (2**32 - 3, 5, 2**32 + 9, True),
    (2**32 - 3, 2**32 - 4, 2**32 + 9, False),
    (2**32 - 3, 9, 2**32 + 9, False),
    (5 * 2**32 + 7, 7, 5 * 2**32 + 8, True),
    (5 * 2**32 + 7, 6, 5 * 2**32 + 8, False),
])  # fmt: skip
async def test_the_circle_of_ids_is_counted_from_the_last_read_on(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch, stored: int, row: int, upcoming: int, is_read: bool
) -> None:
    """The window's own SQL, over ids as a row would bear them on both sides of the turn."""
    await ends.load(TABLE)
    relation = ends.raw("select cursor_key from ops.cursors")[0][0]
    monkeypatch.setattr(windows, "_UPCOMING", f"'{upcoming}'::text::bigint")

    class Source:
        async def fetchrow(self, *_: object) -> dict[str, object]:
            return {"oldest": str(upcoming), "upcoming": str(upcoming), "relation": relation, "has_rows": True}

    window = await windows._transaction_window(Source(), TABLE, CursorState(str(stored), key=relation))  # type: ignore[arg-type]
    condition = window.condition.replace("xmin::text::bigint", str(row))

    assert ends.source(f"select {condition}") == [(is_read,)]


async def test_another_copy_of_the_table_is_read_whole(ends: TwoEnds) -> None:
    """Restored from a backup, or behind a failover: its transaction ids are not the ones that were counted."""
    await ends.load(TABLE)
    ends.source(
        "create table copy (like readings including all); insert into copy select * from readings;"
        "drop table readings; alter table copy rename to readings"
    )

    result = await ends.load(TABLE)

    assert result.counts.rows_read == 200
    assert result.warning is not None
    assert "recreated since the last load" in result.warning
    assert (await ends.load(TABLE)).warning is None


async def test_a_source_whose_counter_is_behind_the_cursor_is_read_whole(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    set_cursor(ends, str(cursor(ends) + 1_000_000))

    result = await ends.load(TABLE)

    assert (result.counts.rows_read, result.counts.reconciliation) == (200, "match")


async def test_a_view_is_refused_since_its_rows_bear_no_transaction(ends: TwoEnds) -> None:
    ends.source("create view seen as select * from readings")

    with pytest.raises(SourceError, match="is not a table"):
        await ends.load(Table("seen", key="id", cursor=TransactionId(), load=Merge()))


async def test_a_partitioned_table_is_followed_like_any_other(ends: TwoEnds) -> None:
    ends.source(
        "create table parts (id int primary key, v int) partition by range (id);"
        "create table parts_1 partition of parts for values from (0) to (100);"
        "create table parts_2 partition of parts for values from (100) to (200);"
        "insert into parts select n, n from generate_series(1, 199) as n"
    )
    table = Table("parts", key="id", cursor=TransactionId(), load=Merge())
    settle(ends, "parts")
    await ends.load(table)
    ends.source("update parts set v = 0 where id in (7, 107)")

    assert (await ends.load(table)).counts.rows_updated == 2
    assert ends.same("parts", "id, v")


def test_it_needs_a_key() -> None:
    with pytest.raises(DeclarationError, match="needs a key"):
        Table("readings", cursor=TransactionId(), load=Append())
