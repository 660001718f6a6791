"""A folder that tests drop files into, and loads of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from flows.access.addresses import SourceAddress, connect
from flows.declare import Append
from flows.kinds.files import Csv, Files, FileTable, Settled
from flows.kinds.files.kind import FileDrops
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import at, rows
from tests.sessions import take_over_sessions

LINES = FileTable("lines", match="**/*.csv*", load=Append(), format=Csv(delimiter=";"))


@dataclass
class Drop:
    """A folder, and a warehouse that it is loaded into."""

    root: Path
    warehouse: TestDatabase

    def put(self, path: str, content: str | bytes) -> Path:
        """Rename a complete file into the folder."""
        whole = self.root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        coming = self.root.parent / "coming"
        coming.write_bytes(content.encode() if isinstance(content, str) else content)
        coming.rename(whole)
        return whole

    def source(self, table: FileTable = LINES, **changed: Any) -> Files:
        changed = {"ready": Settled("0 s"), **changed}
        return Files("drop", connection="drop", tables=[table], **changed)

    async def load(self, table: FileTable = LINES, **changed: Any) -> LoadResult:
        """One load of the table, it or the source declared a little otherwise."""
        of_source = {name: changed.pop(name) for name in ("ready", "acknowledge", "max_expansion") if name in changed}
        declared = replace(table, **changed)
        source = self.source(declared, **of_source)
        take_over_sessions()
        return await load_table(at(self.warehouse, "loader"), SourceAddress(str(self.root)), source, declared)

    async def compare(self, table: FileTable = LINES, **changed: Any) -> Reconciliation:
        """Both ends compared."""
        declared = replace(table, **changed)
        address = SourceAddress(str(self.root))
        return await compare_table(at(self.warehouse, "loader"), address, self.source(declared), declared)

    async def planned(self, table: FileTable = LINES, **changed: Any) -> Any:
        """The plan of the next load."""
        declared = replace(table, **changed)
        kind, source = FileDrops(), self.source(declared)
        async with (
            connect(at(self.warehouse, "loader"), side="warehouse") as warehouse,
            kind.open(source, SourceAddress(str(self.root)), "drop") as origin,
        ):
            return await kind.plan(warehouse, origin, source, declared)

    def raw(self, columns: str = "*", table: str = "lines") -> list[tuple[Any, ...]]:
        """Living rows of raw, in order."""
        query = f"select {columns} from raw_drop.{table} where _deleted_at is null order by 1, 2"
        return [tuple(row.values()) for row in rows(self.warehouse, query)]

    def quarantine(self) -> list[dict[str, Any]]:
        """Documents of open rows, with their rules."""
        query = "select rule, row_data, row_key from quarantine.rows where resolved_at is null order by quarantine_id"
        return [{**row["row_data"], "rule": row["rule"]} for row in rows(self.warehouse, query)]

    def files(self) -> dict[str, str]:
        """What state says of each path."""
        found = rows(self.warehouse, "select path, state from ops.files order by batch_id, path")
        return {row["path"]: row["state"] for row in found}


def ask(warehouse: TestDatabase, statement: str) -> None:
    """Run a statement in the warehouse."""
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as connection:
        connection.execute(statement.encode())


def backdate(path: Path, seconds: float) -> None:
    """Give a file an old modification time, as senders do that keep the one of the original."""
    then = time.time() - seconds
    os.utime(path, (then, then))
