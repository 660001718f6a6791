"""A file of events per change, for the promises that every kind keeps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.declare import Rule
from flows.kinds.debezium import Debezium, EventTable, Settled
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture, Items

TOPIC = "shop.public.items"
SOURCE = Debezium(
    "conform",
    connection="conform",
    ready=Settled("0 s"),
    tables=[
        EventTable(
            "items",
            topic=TOPIC,
            key="id",
            match="events-*.jsonl",
            columns={"id": "bigint", "name": "text", "amount": "integer"},
            rules=(Rule("amount_not_negative", "amount >= 0"),),
            max_quarantined=0.5,
        )
    ],
)


@dataclass
class EventsEnd(End):
    """A database of which a connector writes the events of each change into a new file."""

    folder: Path = field(kw_only=True)
    rows: Items = field(default_factory=dict)
    offset: int = 0
    files: int = 0

    def send(self, *events: tuple[int, dict[str, Any] | None]) -> None:
        lines = []
        for number, value in events:
            line = {"topic": TOPIC, "partition": 0, "offset": self.offset, "key": {"id": number}, "payload": value}
            lines.append(json.dumps(line) + "\n")
            self.offset += 1
        self.files += 1
        coming = self.folder / "coming"
        coming.write_text("".join(lines), encoding="utf-8")
        coming.rename(self.folder / f"events-{self.files:04}.jsonl")

    def write(self, *items: tuple[int, str, int]) -> None:
        events: list[tuple[int, dict[str, Any] | None]] = []
        for number, name, amount in items:
            op = "u" if number in self.rows else "c"
            events.append((number, {"op": op, "before": None, "after": {"id": number, "name": name, "amount": amount}}))
            self.rows[number] = (name, amount)
        self.send(*events)

    def delete(self, number: int) -> None:
        del self.rows[number]
        self.send((number, {"op": "d", "before": {"id": number, "name": None}, "after": None}), (number, None))

    def double(self, number: int, name: str | None = None) -> None:
        raise AssertionError("events of one key are versions of one row")

    def held(self) -> Items:
        return dict(self.rows)

    @contextmanager
    def broken(self) -> Iterator[None]:
        away = self.folder.with_suffix(".away")
        self.folder.rename(away)
        yield
        away.rename(self.folder)


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    drop = folder / "drop"
    drop.mkdir()
    yield EventsEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": str(drop), "MEDALLION_SOURCE_CONFORM_KEY": SECRET},
        item="id, name, amount",
        swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=("file", f"{drop}/events-*.jsonl"),
        duplicates=False,
        counts=False,
        folder=drop,
    )


FIXTURE = Fixture(__name__, start)
