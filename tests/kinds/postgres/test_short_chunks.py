"""What is resumed is whole: a chunk of which rows are missing in the landing table is read again."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.declare import Hashed, Merge, Timestamp
from flows.kinds.postgres import Database, Table, stage
from flows.kinds.postgres.large.chunks import ChunkJob, stage_chunk
from flows.landing import drift
from flows.state.reads import Chunk
from flows.values.errors import WarehouseError
from flows.verbs.load import load_table
from tests.conftest import TestCluster, copy_of, fresh_shop, fresh_warehouse
from tests.kinds.loading import setting
from tests.kinds.postgres.chunked import LARGE, ROWS, SOURCE, create, load_in_a_process
from tests.kinds.postgres.test_chunks import FEWER, load, sizes
from tests.nightly import nightly
from tests.publish.two_ends import Rows, TwoEnds

LANDING = {name: f"landing.shop__{name}" for name in ("orders", "prices", "traced")}


@pytest.fixture(scope="module")
def created(cluster: TestCluster) -> Iterator[TwoEnds]:
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        ends = TwoEnds(warehouse, shop)
        create(ends)
        yield ends


@pytest.fixture
def ends(created: TwoEnds) -> Iterator[TwoEnds]:
    with copy_of(created.warehouse) as warehouse, copy_of(created.shop) as shop:
        yield TwoEnds(warehouse, shop)


def killed_after_chunks(ends: TwoEnds, table: str, times: int = 2) -> Rows:
    """The committed chunks of a load that died."""
    for _ in range(times):
        done = load_in_a_process(ends, table, **FEWER, MEDALLION_FAILPOINT="after_chunk_commit")
        assert done.returncode == -signal.SIGKILL, done.stderr
    return chunks(ends)


def chunks(ends: TwoEnds) -> Rows:
    return ends.raw("select lower_step, upper_step, rows, attempt from ops.chunks order by lower_step")


@pytest.mark.parametrize("table", LANDING)
async def test_a_chunk_that_lost_rows_is_read_again_and_the_others_are_not(ends: TwoEnds, table: str) -> None:
    first, second = killed_after_chunks(ends, table)
    ends.raw(f"delete from {LANDING[table]} where ctid in (select ctid from {LANDING[table]} limit 7)")

    result = await load(ends, table, FEWER)

    assert (result.counts.rows_inserted, result.counts.reconciliation) == (ROWS, "match")
    kept = [row for row in chunks(ends) if row[3] <= second[3]]
    assert kept == [second], f"the chunk that lost rows is {first}"


@pytest.mark.parametrize(
    "tamper",
    [
        "delete from {0}",
        "insert into {0} select * from {0} limit 3",
        "update {0} set v = v where id < 5",
        "insert into {0} select * from {0} limit 3; delete from {0} where ctid in (select ctid from {0} limit 3)",
    ],
    ids=["emptied", "added to", "changed", "as many rows as before"],
)
async def test_a_landing_table_that_was_written_to_is_never_published(ends: TwoEnds, tamper: str) -> None:
    killed_after_chunks(ends, "orders")
    ends.raw(tamper.format(LANDING["orders"]))

    result = await load(ends, "orders", FEWER)

    assert (result.counts.rows_inserted, result.counts.reconciliation) == (ROWS, "match")
    assert ends.same("orders", "id, v, at, note")


async def test_rows_that_go_while_chunks_are_read_are_read_again_by_the_same_load(ends: TwoEnds) -> None:
    source, table = SOURCE, SOURCE.table("orders")
    staged: list[ChunkJob] = []

    async def stage_and_lose(job: ChunkJob) -> Chunk:
        chunk = await stage_chunk(ends.warehouse_address, ends.shop_address, source, table, job)
        staged.append(job)
        if len(staged) == 2:
            ends.raw(f"delete from {LANDING['orders']} where id % 7 = 0")
        return chunk

    with sizes(FEWER | {"MEDALLION_LARGE_LOAD_MB": "0.3", "MEDALLION_LOAD_READERS": "2"}):
        result = await load_table(ends.warehouse_address, ends.shop_address, source, table, run_chunk=stage_and_lose)

    assert (result.counts.rows_read, result.counts.reconciliation) == (ROWS, "match")
    assert ends.same("orders", "id, v, at, note")


async def test_rows_that_always_go_end_the_load_and_the_next_one_is_not_wedged(ends: TwoEnds) -> None:
    source, table = SOURCE, SOURCE.table("orders")

    async def lose(job: ChunkJob) -> Chunk:
        chunk = await stage_chunk(ends.warehouse_address, ends.shop_address, source, table, job)
        ends.raw(f"delete from {LANDING['orders']} where id % 7 = 0")
        return chunk

    with sizes(FEWER | {"MEDALLION_LARGE_LOAD_MB": "0.3", "MEDALLION_LOAD_READERS": "2"}):
        with pytest.raises(WarehouseError, match="rows of committed chunks are missing") as lost:
            await load_table(ends.warehouse_address, ends.shop_address, source, table, run_chunk=lose)
        assert lost.value.retryable
    assert (await load(ends, "orders", FEWER)).counts.reconciliation == "match"


async def test_chunks_of_earlier_code_are_counted_together(ends: TwoEnds) -> None:
    """It did not note by which transaction a chunk's rows were written."""
    before = killed_after_chunks(ends, "orders")
    ends.raw("update ops.chunks set written_by = null")
    result = await load(ends, "orders", FEWER)
    assert result.counts.reconciliation == "match"
    assert chunks(ends)[:2] == before


async def test_a_read_in_one_piece_that_lost_rows_is_tried_again(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:

    real = drift.fit_to_raw

    async def lose(warehouse: object, *given: object) -> object:
        ends.raw(f"delete from {LANDING['orders']} where id < 10")
        return await real(warehouse, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "fit_to_raw", lose)
    with pytest.raises(WarehouseError, match="11991 rows") as lost:
        await ends.load(SOURCE.table("orders"))
    assert lost.value.retryable
    monkeypatch.undo()
    assert (await ends.load(SOURCE.table("orders"))).counts.reconciliation == "match"


@pytest.mark.parametrize("cursor", [Timestamp("at"), *nightly(None)], ids=["a cursor", "no cursor"])
async def test_a_materialized_view_is_read_in_chunks(ends: TwoEnds, cursor: Timestamp | None) -> None:
    """LOCK refuses it, and its columns may be null whatever it selects."""
    ends.source(
        "create materialized view seen as select * from orders; create unique index on seen (id); "
        "grant select on seen to public; analyze seen"
    )
    table = Table("seen", key="id", cursor=cursor, load=Merge(), deletes=True)
    source = Database("shop", connection="shop", tables=[table])
    with sizes(LARGE):
        first = await load_table(ends.warehouse_address, ends.shop_address, source, table)
        ends.source("update orders set v = -1, at = now() where id = 5; refresh materialized view seen")
        second = await load_table(ends.warehouse_address, ends.shop_address, source, table)
    assert first.chunks > 3
    assert (first.counts.rows_read, first.counts.reconciliation) == (ROWS, "match")
    assert (second.counts.rows_updated, second.counts.reconciliation) == (1, "match")


@pytest.mark.parametrize(
    ("declared", "lacks"),
    [
        ({"masked": {"note": Hashed()}}, "note like 'xxx%'"),
        ({"where": "id > 11000"}, "id <= 11000"),
        ({"as_text": ("v",)}, "false"),
    ],
)
async def test_a_read_of_another_declaration_is_not_resumed(
    ends: TwoEnds, declared: dict[str, Any], lacks: str
) -> None:
    """Rows that were staged by the former one would be published beside those of the new one: unmasked, or unwanted."""
    killed_after_chunks(ends, "orders")
    assert ends.raw("select count(*) > 0 from landing.shop__orders") == [(True,)]
    table = replace(SOURCE.table("orders"), **declared)

    with sizes(FEWER), setting(mask_key="a key for hashes in tests, of 40 characters"):
        result = await ends.load(table)

    assert result.counts.reconciliation == "match"
    assert ends.raw(f"select count(*) from raw_shop.orders where {lacks}") == [(0,)]
