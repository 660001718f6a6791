"""A folder that tests write events into, and loads of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.access.addresses import SourceAddress, connect
from flows.kinds.debezium import Debezium, EventTable, Settled
from flows.kinds.debezium.kind import DebeziumEvents
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import at, rows
from tests.sessions import take_over_sessions

RECORDED = Path(__file__).with_name("events")
TOPIC = "shop.public.items"
ITEMS = EventTable(
    "items",
    topic=TOPIC,
    key="id",
    columns={"id": "bigint", "name": "text", "amount": "integer", "note": "text"},
)
#: As it is without a declared column: types are those of the events' schemas.
BY_SCHEMA = replace(ITEMS, columns={})
#: Of a few rows, none may be refused unless it is declared.
TOLERANT = replace(ITEMS, max_quarantined=1.0)
#: The large value of the recorded story.
LONG = "long " * 2000
Line = dict[str, Any]


def recorded(name: str) -> list[Line]:
    """The events of a file, without its first line."""
    _, *lines = (RECORDED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def without_schemas(lines: Iterable[Line]) -> list[Line]:
    """The same events as a connector without schemas writes them."""

    def inner(text: str | None) -> str | None:
        return None if text is None else json.dumps(json.loads(text)["payload"])

    return [{**line, "key": inner(line["key"]), "payload": inner(line["payload"])} for line in lines]


def event(offset: int, op: str, row: Line | None = None, before: Line | None = None, **changed: Any) -> Line:
    """A line with one event of the items, without schemas. `row` and `before` have an id."""
    key = {"id": (row or before or {}).get("id")}
    value: Line | None = {"op": op, "before": before, "after": row, "source": changed.pop("source", {"ts_ms": 1})}
    line = {"topic": TOPIC, "partition": 0, "offset": offset, "key": key, "payload": value}
    return {**line, **({"payload": None} if op == "tombstone" else {}), **changed}


def item(number: int, name: str | None = "a", amount: int | None = 1, note: str | None = None) -> Line:
    """A row."""
    return {"id": number, "name": name, "amount": amount, "note": note}


@dataclass
class Events:
    """A folder, and a warehouse that it is loaded into."""

    root: Path
    warehouse: TestDatabase

    def put(self, name: str, lines: Iterable[Line | str]) -> Path:
        """Rename a complete file into the folder."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        coming = self.root.parent / "coming"
        coming.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return coming.rename(self.root / name)

    def source(self, table: EventTable, **changed: Any) -> Debezium:
        changed = {"ready": Settled("0 s"), **changed}
        return Debezium("events", connection="events", tables=[table], **changed)

    async def load(self, table: EventTable = ITEMS, **changed: Any) -> LoadResult:
        """One load of the table."""
        take_over_sessions()
        source = self.source(table, **changed)
        return await load_table(at(self.warehouse, "loader"), SourceAddress(str(self.root)), source, table)

    async def compare(self, table: EventTable = ITEMS) -> Reconciliation:
        """Both ends compared."""
        address = SourceAddress(str(self.root))
        return await compare_table(at(self.warehouse, "loader"), address, self.source(table), table)

    async def planned(self, table: EventTable = ITEMS) -> Any:
        """The plan of the next load."""
        kind, source = DebeziumEvents(), self.source(table)
        async with (
            connect(at(self.warehouse, "loader"), side="warehouse") as warehouse,
            kind.open(source, SourceAddress(str(self.root)), "events") as origin,
        ):
            return await kind.plan(warehouse, origin, source, table)

    def raw(self, columns: str = "id, name, amount, note", where: str = "_deleted_at is null") -> list[tuple[Any, ...]]:
        """Living rows of raw, in order."""
        query = f"select {columns} from raw_events.items where {where} order by 1"
        return [tuple(row.values()) for row in rows(self.warehouse, query)]

    def quarantine(self) -> list[tuple[str, Any, Any]]:
        """Open rows: rule, document and key."""
        query = "select rule, row_data, row_key from quarantine.rows where resolved_at is null order by quarantine_id"
        return [tuple(row.values()) for row in rows(self.warehouse, query)]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in rows(self.warehouse, query)]
