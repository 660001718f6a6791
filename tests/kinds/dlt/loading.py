"""Loads of dlt sources, and what they left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.kinds.dlt import DltSource, Resource
from flows.publish.session import LoadResult
from flows.values.connection import ApiConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import Row, rows
from tests.kinds.loading import at as address
from tests.sessions import take_over_sessions

SOURCES = "tests.kinds.dlt.sources"


class RecordsFile:
    """What the sources of tests/kinds/dlt/sources.py yield."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def hold(self, *records: Any) -> None:
        self.path.write_text(json.dumps(records), encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordsFile:
    monkeypatch.setenv("DLT_TEST_RECORDS", str(tmp_path / "records.json"))
    return RecordsFile(tmp_path / "records.json")


def declared(build: str, *resources: Resource, connection: str | None = None) -> DltSource:
    """A source `crm`, made by a function of tests/kinds/dlt/sources.py."""
    return DltSource("crm", build=f"{SOURCES}:{build}", resources=resources, connection=connection)


async def load(
    warehouse: TestDatabase, build: str, resource: Resource, connection: ApiConnection | None = None, **options: Any
) -> LoadResult:
    """One load of one resource."""
    take_over_sessions()
    return await load_table(address(warehouse, "loader"), connection, declared(build, resource), resource, **options)


def raw(warehouse: TestDatabase, table: str, columns: str = "*", order: str = "1") -> list[Row]:
    """Raw's rows."""
    return rows(warehouse, f"select {columns} from raw_crm.{table} order by {order}")


def state(warehouse: TestDatabase, table: str) -> Any:
    """What the resource keeps between reads; None when it keeps nothing yet."""
    found = rows(warehouse, f"select state::text as state from ops.dlt_states where table_name = '{table}'")
    return json.loads(found[0]["state"]) if found else None
