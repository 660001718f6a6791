"""Slots that are lost, snapshots, and tables that join: nothing is lost, and as little as possible is read."""

import asyncio

import psycopg
import pytest

from flows.access.addresses import connect
from flows.declare import Log, Timestamp
from flows.kinds.changelog import inbox, reading, slot
from flows.kinds.changelog.slot import Exporter
from flows.kinds.postgres import Database
from flows.values.errors import MedallionError
from flows.verbs.load import load_table
from tests.kinds.changelog.log_ends import LogEnds, drop_slots
from tests.kinds.changelog.test_changes import ROWS, start
from tests.publish.two_ends import run_sql


async def test_a_slot_that_is_gone_is_made_again_and_only_the_difference_is_read(ends: LogEnds) -> None:
    """Deletes included, and under 10 % of what a copy reads, with 1 % changed."""
    ends.create("items", "id bigint primary key, name text, amount int, note text")
    ends.source("insert into items select n, 'item ' || n, n, repeat('x', 120) from generate_series(1, 20000) as n")
    await ends.set_up()
    copied = (await ends.load()).counts.bytes
    drop_slots(ends.shop)
    ends.source("update items set amount = -1 where id % 200 = 0")
    ends.source("delete from items where id % 400 = 1")
    ends.source("insert into items values (50000, 'new', 1, 'x')")
    assert (await ends.reason())[0] == "reload"
    assert "is gone" in (await ends.reason())[1]

    result = await ends.load()

    assert ends.same()
    assert (result.counts.rows_inserted, result.counts.rows_updated, result.counts.rows_deleted) == (1, 100, 50)
    assert result.counts.rows_read == 101
    assert result.counts.bytes < copied / 10
    assert "was made" in str(result.warning)
    ends.source("update items set amount = -2 where id = 1000")
    again = await ends.load()
    assert (again.strategy, again.counts.rows_updated, again.counts.reconciliation) == ("merge", 1, "match")
    assert ends.same()


async def test_a_slot_that_somebody_advanced_is_a_gap_and_no_change_is_missed(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    ends.source("delete from items where id = 2")
    name = (await ends.look()).names.slot
    ends.admin(f"select pg_replication_slot_advance('{name}', pg_current_wal_lsn())")
    assert "begins behind" in (await ends.reason())[1]

    await ends.load()

    assert ends.same()


async def test_a_slot_that_the_server_invalidated_is_made_again(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    for _ in range(6):  # segments of 16 MB
        ends.admin("select pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()")
    ends.admin("checkpoint")
    assert (await ends.look()).lost
    assert "has lost its WAL" in (await ends.reason())[1]

    result = await ends.load()

    assert ends.same()
    assert "made again" in str(result.warning)
    ends.source("update items set amount = -2 where id = 1")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_a_slot_that_retains_too_much_is_let_go(ends: LogEnds) -> None:
    await start(ends)
    before = (await ends.look()).confirmed
    ends.log = Log(max_retained="1 MB")
    ends.source("update items set amount = -1 where id = 1")
    ends.source("create table busy as select n, repeat('x', 500) as t from generate_series(1, 6000) as n")

    result = await ends.load()

    assert ends.same()
    assert "more than max_retained" in str(result.warning)
    after = await ends.look()
    assert before is not None
    assert after.confirmed is not None
    assert after.confirmed > before


async def test_if_most_rows_differ_they_are_copied(ends: LogEnds) -> None:
    await start(ends, 3000)
    drop_slots(ends.shop)
    ends.source("update items set amount = amount + 1")

    result = await ends.load()

    assert "too many do" in (await ends.reason())[1] or result.counts.rows_read == 3000
    assert ends.same()


async def test_without_a_publication_a_load_is_refused_with_the_way_out(ends: LogEnds) -> None:
    """The server itself says nothing: a slot without one brings no rows, and advancing it loses them."""
    ends.create("items", "id bigint primary key, name text")
    with pytest.raises(MedallionError, match="does not exist") as refused:
        await ends.load()
    assert "medallion capture setup shop" in refused.value.fix
    await ends.set_up()
    await ends.load()
    name = (await ends.look()).names.publication
    ends.admin(f"drop publication {name}")
    ends.source("insert into items values (1, 'one')")
    with pytest.raises(MedallionError, match="does not exist"):
        await ends.load()
    await ends.set_up()

    await ends.load()

    assert ends.same(), "what was written before the publication was made again is not in its log"


@pytest.mark.parametrize(
    ("breaks", "match"),
    [
        ("alter publication {name} drop table items", "does not contain the table"),
        ("alter publication {name} set (publish = 'insert')", "leaves out"),
        ("alter publication {name} set table items where (id > 5)", "filters rows"),
        ("alter publication {name} set table items (id, name)", "does not contain column amount"),
        ("alter table items replica identity nothing", "updates and deletes of the table carry no column"),
    ],
)
async def test_what_would_keep_changes_away_is_refused(ends: LogEnds, breaks: str, match: str) -> None:
    await start(ends)
    before = ends.live()
    name = (await ends.look()).names.publication
    ends.admin(breaks.format(name=name))

    with pytest.raises(MedallionError, match=match) as refused:
        await ends.load()

    assert ends.live() == before
    assert not refused.value.retryable


async def test_a_table_that_joins_is_copied_alone_while_the_others_go_on(ends: LogEnds) -> None:
    """And the slot waits for its snapshot, whatever the others commit meanwhile."""
    await start(ends)
    ends.create("other", "id bigint primary key, name text")
    ends.source("insert into other select n, 'o' from generate_series(1, 10) as n")
    await ends.set_up()
    ends.source("update items set amount = -1 where id = 1")
    honest, exported = Exporter.snapshot, asyncio.Event()

    async def held(exporter: Exporter) -> str:
        name = await honest(exporter)
        # After its snapshot: a change of it, and a load of the other table that would let the slot advance.
        ends.source("update other set name = 'changed' where id = 3")
        ends.source("insert into other values (11, 'late')")
        await load_table(ends.warehouse_address, ends.address, ends.declared, ends.declared.table("items"))
        exported.set()
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Exporter, "snapshot", held)
        assert (await ends.load("other")).strategy == "initial"
    assert exported.is_set()
    assert ends.same("items")
    assert ends.live("other", "count(*)") == [(10,)]

    assert (await ends.load("other")).strategy == "merge"

    assert ends.same("other")


async def test_a_first_load_is_without_gap_or_overlap_under_writers(ends: LogEnds) -> None:
    ends.create("items", "id bigint primary key, name text, amount int")
    ends.source(ROWS.format(1, 500))
    await ends.set_up()
    stop = asyncio.Event()

    def write(writer: int) -> None:
        url, number = ends.shop.url("app"), 0
        while not stop.is_set() and number < 400:
            number += 1
            key = 1000 + writer * 1000 + number
            run_sql(
                url,
                f"begin; insert into items values ({key}, 'w', {number}); "
                f"update items set amount = amount + 1 where id = {number % 500 + 1}; "
                f"delete from items where id = {key - 3}; commit",
            )

    writers = [asyncio.to_thread(write, writer) for writer in range(2)]
    running = [asyncio.ensure_future(writer) for writer in writers]
    await ends.load()
    await ends.load()
    stop.set()
    await asyncio.gather(*running)

    result = await ends.load()

    assert ends.same()
    assert result.counts.reconciliation == "match"


async def test_an_open_transaction_makes_the_first_load_wait_only_so_long(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.create("items", "id bigint primary key, name text")
    await ends.set_up()
    monkeypatch.setattr(slot, "_WAIT_SECONDS", 1)
    async with connect(ends.address, side="source") as origin:
        await origin.execute("begin")
        with psycopg.connect(ends.shop.url("app")) as writer:
            writer.execute("insert into items values (1, 'open')")
            with pytest.raises(MedallionError, match="transaction that has written has been open") as refused:
                await ends.load()
        assert refused.value.retryable
    temporary = ends.admin(
        "select count(*) from pg_replication_slots where temporary and database = current_database()"
    )
    assert temporary == [(0,)]


async def test_a_table_that_batches_loaded_goes_on_by_its_log_without_a_copy(ends: LogEnds) -> None:
    await start(ends)
    table = ends.tables[0]
    batch = Database("shop", connection="shop", tables=[table])
    ends.raw("drop table raw_shop.items")
    ends.raw("delete from ops.cursors")
    await load_table(ends.warehouse_address, ends.address, batch, table)
    ends.source("update items set amount = -1 where id = 1")
    ends.source("delete from items where id = 2")

    result = await ends.load()

    assert result.counts.rows_read == 1
    assert ends.same()
    ends.source("update items set amount = -1 where id = 3")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_a_comparison_counts_what_is_in_the_log_as_pending(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    ends.source("delete from items where id = 2")
    ends.source("insert into items values (30, 'new', 1)")
    ends.raw("update raw_shop.items set name = 'wrong' where id = 9")
    ends.raw("delete from raw_shop.items where id = 10")

    found = await ends.compare()

    assert (found.pending, found.different, found.missing, found.extra) == (3, 1, 1, 0)
    await ends.compare(repair=True)
    await ends.load()
    assert ends.same()
    assert (await ends.compare()).result == "match"
    assert ends.raw("select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'") == []


async def test_a_table_that_goes_back_to_batches_is_read_again(ends: LogEnds) -> None:
    """A position of the log is no value of a cursor."""
    ends.create("items", "id bigint primary key, changed_at timestamptz default now()", cursor=Timestamp("changed_at"))
    ends.source("insert into items select generate_series(1, 5)")
    await ends.set_up()
    await ends.load()
    ends.source("insert into items values (6)")
    table = ends.tables[0]
    batch = Database("shop", connection="shop", tables=[table])

    result = await load_table(ends.warehouse_address, ends.address, batch, table)

    assert result.strategy == "reload"
    assert "was from the source's log" in str(result.warning)
    assert len(ends.live()) >= 5


async def test_a_publication_that_is_made_again_while_the_log_is_read_is_noticed(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    name, honest = (await ends.look()).names.publication, reading.pour

    async def meanwhile(*given: object) -> object:
        ends.admin(f"drop publication {name}")
        found = await honest(*given)  # type: ignore[arg-type]
        await ends.set_up()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "pour", meanwhile)
        with pytest.raises(MedallionError, match=r"publication .* changed while the load began"):
            await ends.load()

    await ends.load()

    assert ends.same()
