"""Reads in chunks: the same rows as in one piece, whoever reads them, however often the reader dies."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from flows.failures.failpoints import FAILPOINTS
from flows.kinds.postgres.large.chunks import ChunkJob, stage_chunk
from flows.publish.session import LoadResult
from flows.state.reads import Chunk
from flows.values.errors import LoadLocked, MedallionError, SourceUnavailable
from flows.verbs.load import load_table
from tests.conftest import TestCluster, copy_of, fresh_shop, fresh_warehouse
from tests.kinds.loading import setting
from tests.kinds.postgres.chunked import KEYS, LARGE, MEDIUM, ROWS, SOURCE, create, load_in_a_process
from tests.kinds.postgres.invariants import six_invariants
from tests.nightly import each_once, nightly
from tests.publish.two_ends import Rows, TwoEnds
from tests.sessions import take_over_sessions

# What every load passes before it stages anything cannot differ between one read and another.
# Four to nine chunks, for a reader who is killed after each.
FEWER = MEDIUM | {"MEDALLION_CHUNK_MIN_MB": "0.09", "MEDALLION_CHUNK_MAX_MB": "0.14"}
STAGING = [name for name in FAILPOINTS[FAILPOINTS.index("after_landing_created") :] if "slice" not in name]
# Where chunks make a difference, and the end of publishing. The others are met with every change in loads without
# chunks, by tests/kinds/postgres/test_failpoints.py.
TRIED = {"in_chunk_before_commit", "after_chunk_commit", "after_commit"}
FEWER_DEATHS = [*sorted(TRIED), *nightly(*(name for name in STAGING if name not in TRIED))]


@pytest.fixture(scope="module")
def created(cluster: TestCluster) -> Iterator[TwoEnds]:
    """The tables, read by nobody yet. Tests take copies: making them takes four times as long."""
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        ends = TwoEnds(warehouse, shop)
        create(ends)
        yield ends


@pytest.fixture
def ends(created: TwoEnds) -> Iterator[TwoEnds]:
    with copy_of(created.warehouse) as warehouse, copy_of(created.shop) as shop:
        yield TwoEnds(warehouse, shop)


@contextmanager
def sizes(variables: dict[str, str]) -> Iterator[None]:
    with setting(**{name.removeprefix("MEDALLION_").lower(): value for name, value in variables.items()}):
        yield


async def load(ends: TwoEnds, table: str, variables: dict[str, str] = MEDIUM) -> LoadResult:
    with sizes(variables):
        take_over_sessions()
        return await load_table(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table(table))


def chunks(ends: TwoEnds) -> Rows:
    return ends.raw(
        "select batch_id, lower_step, upper_step, attempt, rows from ops.chunks order by batch_id, lower_step"
    )


def doubled(ends: TwoEnds, table: str) -> int:
    query = f"select count(*) - count(distinct ({KEYS[table]})) from raw_shop.{table}"
    return int(ends.raw(query)[0][0])


def is_whole_and_once(ends: TwoEnds, table: str) -> bool:
    columns = ends.source("select string_agg(attname, ', ' order by attnum) from pg_attribute "
                          "where attrelid = %s::regclass and attnum > 0 and not attisdropped", [table])  # fmt: skip
    return ends.same(table, columns[0][0]) and doubled(ends, table) == 0


# -- the same rows


@pytest.mark.parametrize(("table", "variables"), each_once(["orders", "prices", "events"], [MEDIUM, LARGE]))
async def test_a_table_read_in_chunks_is_the_table(ends: TwoEnds, table: str, variables: dict[str, str]) -> None:
    result = await load(ends, table, variables)

    assert (result.strategy, result.counts.reconciliation, result.counts.rows_inserted) == ("initial", "match", ROWS)
    assert result.chunks == len(chunks(ends)) > 4
    assert sum(chunk[-1] for chunk in chunks(ends)) == ROWS
    assert result.volume == ("large" if variables is LARGE else "medium")
    assert is_whole_and_once(ends, table)


async def test_chunks_side_by_side_are_read_in_one_snapshot(ends: TwoEnds) -> None:
    """Two rows far apart change together all the while; a reader of two moments would find another sum."""
    stop = threading.Event()

    def keep_transferring() -> None:
        with psycopg.connect(ends.shop.url("app"), autocommit=True) as app:
            while not stop.is_set():
                app.execute("update prices set v = v - 1 where id = 1; update prices set v = v + 1 where id = 3990")

    writer = threading.Thread(target=keep_transferring)
    writer.start()
    try:
        for _ in range(4):
            await load(ends, "prices", LARGE)
            assert ends.raw("select sum(v) from raw_shop.prices") == ends.source("select sum(v) from prices")
    finally:
        stop.set()
        writer.join()


async def test_a_later_replace_and_a_reread_in_chunks_write_the_difference(ends: TwoEnds) -> None:
    await load(ends, "prices")
    ends.source("update prices set v = -v where id < 10; delete from prices where id = 77")

    replaced = await load(ends, "prices")

    assert (replaced.strategy, replaced.counts.rows_updated, replaced.counts.rows_deleted) == ("replace", 29, 3)
    assert replaced.counts.reconciliation == "match"
    assert is_whole_and_once(ends, "prices")
    again = await load(ends, "prices")
    assert (again.counts.changed, again.counts.reconciliation) == (0, "match")


# -- killed


@pytest.mark.parametrize("table", ["orders", *nightly("prices", "events")])
async def test_a_reader_killed_after_every_chunk_reads_none_of_them_twice(ends: TwoEnds, table: str) -> None:
    async with six_invariants(ends, SOURCE, table):
        attempts = 0
        while (died := load_in_a_process(ends, table, **FEWER, MEDALLION_FAILPOINT="after_chunk_commit")).returncode:
            attempts += 1
            assert died.returncode == -signal.SIGKILL, died.stderr
            assert len(chunks(ends)) == attempts < 40

        kept = chunks(ends)
        assert attempts == len(kept) > 4
        assert [chunk[3] for chunk in kept] == list(range(1, attempts + 1))
        assert len({chunk[0] for chunk in kept}) == 1
        assert sum(chunk[4] for chunk in kept) == ROWS
        assert ends.raw("select status, rows_read from ops.loads") == [("published", ROWS)]


@pytest.mark.parametrize("failpoint", FEWER_DEATHS)
@pytest.mark.parametrize("variables", [*nightly(MEDIUM), LARGE], ids=["one after another", "side by side"])
async def test_a_read_killed_anywhere_ends_as_if_it_had_not_been(
    ends: TwoEnds, failpoint: str, variables: dict[str, str]
) -> None:
    async with six_invariants(ends, SOURCE, "prices"):
        await load(ends, "prices", variables)
        ends.source("update prices set v = -v where id < 10; delete from prices where id = 77; analyze prices")

        died = load_in_a_process(ends, "prices", **variables, MEDALLION_FAILPOINT=failpoint)
        kept = len(chunks(ends))
        again = await load(ends, "prices", variables)

        assert died.returncode == -signal.SIGKILL, died.stderr
        assert again.counts.reconciliation == "match"
        assert len(chunks(ends)) >= kept
        assert ends.raw("select count(*) from pg_tables where schemaname = 'landing'") == [(0,)]


@pytest.mark.parametrize("table", ["orders", *nightly("traced")])
async def test_rows_that_move_between_two_attempts_are_neither_lost_nor_doubled(ends: TwoEnds, table: str) -> None:
    """By pages a changed row goes elsewhere: behind the reader it would be missed, before it it would come twice."""
    async with six_invariants(ends, SOURCE, table):
        while load_in_a_process(ends, table, **FEWER, MEDALLION_FAILPOINT="after_chunk_commit").returncode:
            ends.source(f"update {table} set v = v + 1, at = clock_timestamp() where id % 50 = 7")
            ends.source(f"delete from {table} where id = (select min(id) from {table})")
            ends.source(f"insert into {table} (id, v, at, note) select max(id) + 1, 0, now(), 'new' from {table}")

        assert len({chunk[3] for chunk in chunks(ends)}) > 2
        final = await load(ends, table)

        assert final.counts.reconciliation == "match"


@pytest.mark.parametrize(
    "meanwhile",
    [
        "alter table prices add column added int default 7",
        "alter table prices drop column note",
        "alter table prices add unique (note, shop, id), drop constraint prices_pkey, add primary key (shop, id)",
    ],
    ids=["column added", "column dropped", "index replaced"],
)
async def test_what_was_staged_of_another_shape_or_cut_is_not_built_upon(ends: TwoEnds, meanwhile: str) -> None:
    async with six_invariants(ends, SOURCE, "prices"):
        load_in_a_process(ends, "prices", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
        ends.source(meanwhile)

        result = await load(ends, "prices")

        assert {chunk[3] for chunk in chunks(ends)} == {2}
        assert result.counts.reconciliation == "match"


@pytest.mark.parametrize("loss", ["truncate landing.shop__prices", "drop table landing.shop__prices"])
async def test_a_landing_table_that_lost_its_rows_is_not_built_upon(ends: TwoEnds, loss: str) -> None:
    """A crash of the warehouse empties unlogged tables."""
    async with six_invariants(ends, SOURCE, "prices"):
        load_in_a_process(ends, "prices", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
        ends.raw(loss)

        await load(ends, "prices")


async def test_an_interrupted_read_of_long_ago_begins_anew(ends: TwoEnds) -> None:
    async with six_invariants(ends, SOURCE, "prices"):
        load_in_a_process(ends, "prices", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
        ends.raw("update ops.chunks set committed_at = committed_at - interval '13 h'")

        await load(ends, "prices")

        assert ends.raw("select status from ops.loads order by batch_id") == [("failed",), ("published",)]


async def test_losing_the_snapshot_fails_the_attempt_and_the_next_one_goes_on(ends: TwoEnds) -> None:
    async with six_invariants(ends, SOURCE, "orders"):
        count = 0

        async def run(job: ChunkJob) -> Chunk:
            nonlocal count
            count += 1
            if count == 6:
                with psycopg.connect(ends.shop.url("admin"), autocommit=True) as admin:
                    admin.execute(
                        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                        "where datname = current_database() and application_name like 'medallion read %' "
                        "and state = 'idle in transaction'"
                    )
            return await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), job)

        with sizes(LARGE), pytest.raises(MedallionError) as lost:
            await load_table(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), run_chunk=run)
        assert lost.value.retryable
        kept = chunks(ends)
        assert {chunk[3] for chunk in kept} == {1}

        await load(ends, "orders", LARGE)

        assert [chunk for chunk in chunks(ends) if chunk[3] == 1] == kept
        assert {chunk[3] for chunk in chunks(ends)} == {1, 2}


async def test_readers_that_fail_together_leave_no_failure_that_nobody_took_note_of(
    ends: TwoEnds, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def run(_job: ChunkJob) -> Chunk:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise LoadLocked("said by all of them", where="shop.orders", fix="none")

    with sizes(LARGE), pytest.raises(LoadLocked):
        await load_table(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), run_chunk=run)
    gc.collect()

    assert asked > 1
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@contextmanager
def snapshot_of_a_session_that_is_gone(ends: TwoEnds, cluster: TestCluster) -> Iterator[str]:
    """Its name is taken back after the session has gone; here it stays, as it does for a moment."""
    (folder,) = cluster.connection.execute("show data_directory").fetchone() or ("",)
    with psycopg.connect(ends.shop.url("extractor")) as holder:
        holder.execute("set transaction isolation level repeatable read, read only")
        (snapshot,) = holder.execute("select pg_export_snapshot()").fetchone() or ("",)
        file = Path(folder, "pg_snapshots", snapshot)
        kept, owner = file.read_bytes(), file.stat()
    file.write_bytes(kept)
    os.chown(file, owner.st_uid, owner.st_gid)
    yield snapshot
    file.unlink()


async def test_a_snapshot_whose_holder_is_just_ending_is_lost_too(ends: TwoEnds, cluster: TestCluster) -> None:
    """Whoever asks for it in that moment is answered 55000, and later 42704."""
    load_in_a_process(ends, "orders", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
    batch, _, upper, attempt, _ = chunks(ends)[0]
    with snapshot_of_a_session_that_is_gone(ends, cluster) as snapshot:
        job = ChunkJob("shop", "orders", batch, attempt, snapshot, upper, upper + 2, 1, "time")

        with pytest.raises(SourceUnavailable, match="snapshot of all chunks was lost"):
            await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), job)


# -- one attempt at a time


async def test_a_worker_of_an_older_attempt_commits_nothing(ends: TwoEnds) -> None:
    async with six_invariants(ends, SOURCE, "orders"):
        jobs: list[ChunkJob] = []

        async def run(job: ChunkJob) -> Chunk:
            jobs.append(job)
            return await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), job)

        with psycopg.connect(ends.shop.url("extractor")) as holder:
            holder.execute("set transaction isolation level repeatable read, read only")
            snapshot = holder.execute("select pg_export_snapshot()").fetchone()
            assert snapshot is not None
            load_in_a_process(ends, "orders", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
            batch, _, upper, attempt, _ = chunks(ends)[0]
            await load(ends, "orders")
            old = ChunkJob("shop", "orders", batch, attempt, snapshot[0], upper, upper + 2, 1, "time")

            with pytest.raises(LoadLocked, match="another attempt"):
                await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), old)


async def test_a_new_attempt_waits_for_a_worker_that_is_still_committing(ends: TwoEnds) -> None:
    async with six_invariants(ends, SOURCE, "orders"):
        load_in_a_process(ends, "orders", **MEDIUM, MEDALLION_FAILPOINT="after_chunk_commit")
        with psycopg.connect(ends.warehouse.url("loader")) as zombie:
            zombie.execute("select from ops.reads for key share")
            waiting = asyncio.create_task(load(ends, "orders"))
            await asyncio.sleep(0.7)
            assert not waiting.done()
            assert len(chunks(ends)) == 1
        await waiting


async def test_a_failing_chunk_ends_the_others_and_keeps_what_they_committed(ends: TwoEnds) -> None:
    async with six_invariants(ends, SOURCE, "orders"):

        async def run(job: ChunkJob) -> Chunk:
            if job.lower > 30:
                raise LoadLocked("somebody locked the table", where="orders", fix="wait", retryable=True)
            return await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), job)

        with sizes(LARGE), pytest.raises(LoadLocked):
            await load_table(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("orders"), run_chunk=run)

        assert ends.raw("select status from ops.loads") == [("failed",)]
        result = await load(ends, "orders", LARGE)
        assert result.counts.reconciliation == "match"


# -- windows with a cursor each


@pytest.fixture(scope="module")
def touched_once(created: TwoEnds) -> Iterator[TwoEnds]:
    with copy_of(created.warehouse) as warehouse, copy_of(created.shop) as shop:
        ends = TwoEnds(warehouse, shop)
        for table in ("orders", "events"):
            asyncio.run(load(ends, table))
        ends.source("update orders set v = v + 1, at = now()")
        ends.source("insert into events (v, note) select v, note from events")
        ends.source("analyze orders; analyze events; select pg_sleep(1.1)")  # past the guard of the horizon
        yield ends


@pytest.fixture
def touched(touched_once: TwoEnds) -> Iterator[TwoEnds]:
    """All rows read once, then all changed in one transaction: they share one cursor value."""
    with copy_of(touched_once.warehouse) as warehouse, copy_of(touched_once.shop) as shop:
        ends = TwoEnds(warehouse, shop)
        # A copy of a database is another source, whose cursors nobody would trust.
        ends.raw("update ops.cursors set identity = null")
        yield ends


async def test_a_large_catch_up_publishes_chunk_by_chunk(touched: TwoEnds) -> None:
    orders, events = await load(touched, "orders"), await load(touched, "events")

    assert (orders.chunks > 4, orders.counts.rows_updated, orders.counts.reconciliation) == (True, ROWS, "match")
    assert (events.chunks > 4, events.counts.rows_inserted, events.counts.reconciliation) == (True, ROWS, "match")
    for table in ("orders", "events"):
        verdicts = touched.raw(
            "select reconciliation, status from ops.loads where table_name = %s and strategy <> 'initial' "
            "order by batch_id",
            [table],
        )
        assert verdicts[-1] == ("match", "published")
        assert set(verdicts[:-1]) == {("incomplete", "published")}
        assert is_whole_and_once(touched, table)


@pytest.mark.parametrize("table", ["orders", *nightly("events")])
async def test_a_catch_up_killed_after_every_chunk_goes_on_from_its_cursor(touched: TwoEnds, table: str) -> None:
    """All rows of orders share one timestamp: only the key tells how far the reader came."""
    async with six_invariants(touched, SOURCE, table):
        cursors = []
        while load_in_a_process(touched, table, **FEWER, MEDALLION_FAILPOINT="after_chunk_commit").returncode:
            cursors.append(
                touched.raw(f"select cursor_value, cursor_key from ops.cursors where table_name = '{table}'")[0]
            )
            assert len(cursors) < 40

        assert len(set(cursors)) == len(cursors) > 3
        assert touched.raw(
            "select sum(rows_updated + rows_inserted) from ops.loads where strategy <> 'initial' and table_name = %s",
            [table],
        ) == [(ROWS,)]
        await load(touched, table)


@pytest.mark.parametrize("failpoint", [name for name in FEWER_DEATHS if name != "in_chunk_before_commit"])
async def test_a_catch_up_killed_anywhere_loses_nothing(touched: TwoEnds, failpoint: str) -> None:
    async with six_invariants(touched, SOURCE, "orders"):
        died = load_in_a_process(touched, "orders", **MEDIUM, MEDALLION_FAILPOINT=failpoint)
        await load(touched, "orders")

        assert died.returncode == -signal.SIGKILL, died.stderr


async def test_rows_without_a_cursor_value_come_with_a_catch_up(touched: TwoEnds) -> None:
    touched.source("update orders set at = null, v = -5 where id % 10 = 0")

    result = await load(touched, "orders")

    assert result.chunks > 4
    assert is_whole_and_once(touched, "orders")


async def test_rows_of_an_open_transaction_are_not_overtaken_by_chunks(touched: TwoEnds) -> None:
    async with six_invariants(touched, SOURCE, "orders"):
        with psycopg.connect(touched.shop.url("app")) as late:
            late.execute("update orders set v = -9, at = now() where id = 5")
            touched.source("update orders set v = v + 1, at = clock_timestamp() where id <> 5")
            await load(touched, "orders")
            late.commit()

        result = await load(touched, "orders")

        assert result.counts.reconciliation == "match"


async def test_the_sizes_that_were_chosen_stand_in_the_ledger(ends: TwoEnds) -> None:
    await load(ends, "orders", MEDIUM | {"MEDALLION_CHUNK_MAX_MB": "0.4"})

    sizes_and_reasons = ends.raw("select size_bytes, size_reason from ops.chunks order by lower_step")

    assert sizes_and_reasons[0] == (160_000, "start")
    assert any(size == 320_000 for size, _ in sizes_and_reasons[1:])
    assert all(40_000 <= size <= 400_000 for size, _ in sizes_and_reasons)
    measured = ends.raw("select bool_and(seconds > 0 and bytes > 0 and memory_bytes >= 0) from ops.chunks")
    assert measured == [(True,)]
