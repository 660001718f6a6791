"""The row limit for development, for resources of dlt: their own state stays what a full read made of it."""

import pytest

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

import pyarrow as pa

from flows.declare import Append
from flows.kinds.dlt import Resource
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.kinds.dlt import sources
from tests.kinds.dlt.loading import RecordsFile, file, load, raw, state
from tests.kinds.dlt.sources import table
from tests.kinds.loading import setting

__all__ = ["file"]
pytestmark = pytest.mark.xdist_group("dlt")

ENTRIES = Resource("entries", load=Append())
THINGS = Resource("things", key="id")


def entries(first: int, last: int) -> list[dict[str, object]]:
    return [{"id": n, "changed_at": f"2026-01-01T00:{n:02}:00Z"} for n in range(first, last + 1)]


async def test_a_sample_of_a_log_is_replaced_by_all_of_it(warehouse: TestDatabase, file: RecordsFile) -> None:
    file.hold(*entries(1, 20))
    with setting(row_limit=5):
        for _ in range(2):
            result = await load(warehouse, "entries", ENTRIES)
            assert (result.counts.rows_read, result.counts.reconciliation) == (5, "limited")
            assert len(raw(warehouse, "entries")) == 5
    assert state(warehouse, "entries") is None

    assert (await load(warehouse, "entries", ENTRIES)).counts.rows_read == 20
    assert len(raw(warehouse, "entries")) == 20
    assert (await load(warehouse, "entries", ENTRIES)).counts.rows_inserted == 0
    before = state(warehouse, "entries")
    with setting(row_limit=5), pytest.raises(DeclarationError, match="raw has a full load"):
        await load(warehouse, "entries", ENTRIES)
    assert state(warehouse, "entries") == before


async def test_nothing_is_marked_as_deleted_beside_a_full_load(warehouse: TestDatabase, file: RecordsFile) -> None:
    file.hold(*({"id": n, "gone": False} for n in range(1, 11)))
    await load(warehouse, "things", THINGS)
    file.hold(*({"id": n, "gone": n < 4, "new": True} for n in range(1, 11)))

    with setting(row_limit=5):
        counts = (await load(warehouse, "things", THINGS)).counts

    assert (counts.rows_deleted, counts.rows_updated) == (0, 2)
    assert [row["id"] for row in raw(warehouse, "things", "id", "id") if row] == [
        *map(str, sorted(range(1, 11), key=str))
    ]
    assert (await load(warehouse, "things", THINGS)).counts.rows_deleted == 3


async def test_arrow_tables_are_cut_at_the_limit(warehouse: TestDatabase) -> None:
    sources.FRAMES.clear()
    sources.FRAMES.append(table(id=pa.array(range(100), pa.int64())))
    with setting(row_limit=7):
        assert (await load(warehouse, "frames", Resource("frames", columns=True))).counts.rows_read == 7
    await load(warehouse, "frames", Resource("frames", columns=True))
    assert len(raw(warehouse, "frames")) == 100
