"""A source that is not PostgreSQL, through the same flow."""

import sqlite3
from pathlib import Path

import pytest

from flows.declare import Merge, Sequence
from flows.ingest import ingest
from flows.kinds.postgres import Database, Table
from tests.flows.conftest import Ends
from tests.kinds.loading import loads, rows

pytest.importorskip("adbc_driver_sqlite", reason="the extra `databases` is not installed")


async def test_a_sqlite_source_is_ingested_by_the_flow(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / "till.db") as file:
        file.execute("create table slips (slip_id integer primary key, total decimal(10,2))")
        file.executemany("insert into slips values (?, ?)", [(1, 9.99), (2, 0.1)])
    table = Table("slips", key="slip_id", cursor=Sequence("slip_id"), load=Merge())
    till = Database("till", connection="till", engine="sqlite", tables=[table])
    monkeypatch.setattr("flows.verbs.find.SOURCES", [till])
    monkeypatch.setenv("MEDALLION_SOURCE_TILL_URL", f"sqlite:///{tmp_path}/till.db")

    state = await ingest(source="till", return_state=True)

    assert state.is_completed()
    assert rows(ends.warehouse, "select slip_id, total::text as total from raw_till.slips order by 1") == [
        {"slip_id": 1, "total": "9.99"},
        {"slip_id": 2, "total": "0.1"},
    ]
    assert [load["reconciliation"] for load in loads(ends.warehouse)] == ["match"]
