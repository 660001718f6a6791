"""Loads from the servers of the tests, and what raw must hold afterwards."""

import json
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows.kinds.api import Api
from flows.publish.session import LoadResult
from flows.values.connection import ApiConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.servers.imitation import Imitation
from tests.kinds.conformance.forking import run
from tests.kinds.loading import at, rows
from tests.sessions import take_over_sessions


async def load(
    warehouse: TestDatabase, api: Api, url: str, endpoint: str, key: str | None = None, user: str | None = None
) -> LoadResult:
    """One load of one endpoint."""
    connection = ApiConnection(api.connection, url, key, user)
    take_over_sessions()
    return await load_table(at(warehouse, "loader"), connection, api, api.table(endpoint))


def load_and_kill(
    warehouse: TestDatabase,
    server: Imitation,
    request: int,
    declared: Sequence[str],
    url: str,
    key: str,
    user: str = "",
) -> None:
    """A load in a process of its own, which dies by SIGKILL at the server's request of that number.

    It publishes page by page, so that all but the last page or two before its death are in raw.
    """
    with tempfile.TemporaryDirectory() as folder:
        pid = Path(folder, "pid")

        def kill() -> None:
            with suppress(OSError):  # it was over before the request at which it was to die
                os.kill(int(pid.read_text()), signal.SIGKILL)

        server.before[request] = kill
        done = run(
            "tests.kinds.api.servers.one_load",
            [*declared],
            {
                "MEDALLION_API_GROUP_SECONDS": "0",
                "ONE_LOAD": json.dumps([warehouse.url("loader"), url, key, user, str(pid)]),
            },
        )
    assert done.returncode == -signal.SIGKILL, done.stderr


def raw_records(warehouse: TestDatabase, table: str, key: str = "id") -> dict[Any, Any]:
    """The records that raw takes for alive, by the key's column."""
    found = rows(warehouse, f"select {key} as key, payload from {table} where _deleted_at is null")
    records = {row["key"]: row["payload"] for row in found}
    assert len(records) == len(found), "a key stands in raw twice"
    return records


def deleted_keys(warehouse: TestDatabase, table: str, key: str = "id") -> set[Any]:
    """The keys of tombstones."""
    return {row["key"] for row in rows(warehouse, f"select {key} as key from {table} where _deleted_at is not null")}


def by_id(records: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
    """Records as a source holds them, by id."""
    return {record["id"]: record for record in records}
