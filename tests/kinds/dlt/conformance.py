"""A source of dlt, for the promises that every kind keeps: a resource that yields what a file holds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flows.declare import Replace, Rule
from flows.kinds.dlt import DltSource, Resource
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture, Items

_MODULE = "tests.kinds.dlt.conforming"
SOURCE = DltSource(
    "conform",
    build=f"{_MODULE}:conforming",
    connection="conform",
    resources=[
        Resource(
            "items",
            key="id",
            key_type="bigint",
            load=Replace(),
            count=f"{_MODULE}:count",
            rules=(Rule("amount_not_negative", "(payload ->> 'amount')::int >= 0"),),
            max_quarantined=0.5,
        )
    ],
)


@dataclass
class DltEnd(End):
    """A file of records."""

    path: Path = field(kw_only=True)

    @property
    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def keep(self, records: list[dict[str, Any]]) -> None:
        self.path.write_text(json.dumps(records), encoding="utf-8")

    def write(self, *items: tuple[int, str, int]) -> None:
        new = [{"id": number, "name": name, "amount": amount} for number, name, amount in items]
        ids = {record["id"] for record in new}
        self.keep([record for record in self.records if record["id"] not in ids] + new)

    def delete(self, number: int) -> None:
        self.keep([record for record in self.records if record["id"] != number])

    def double(self, number: int, name: str | None = None) -> None:
        found = [record for record in self.records if record["id"] == number]
        self.keep(self.records + [{**record, "name": name or record["name"]} for record in found])

    def held(self) -> Items:
        return {record["id"]: (record["name"], record["amount"]) for record in self.records}

    @contextmanager
    def broken(self) -> Iterator[None]:
        away = self.path.with_suffix(".away")
        self.path.rename(away)
        yield
        away.rename(self.path)


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    path = folder / "conform.json"
    end = DltEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": str(path), "MEDALLION_SOURCE_CONFORM_KEY": SECRET},
        item="id, payload ->> 'name', (payload ->> 'amount')::int",
        swapped="update {0} as r set payload = jsonb_set(r.payload, '{{name}}', o.payload -> 'name') from {0} as o "
        "where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=("dlt://conform", "items"),
        path=path,
    )
    end.keep([])
    yield end


FIXTURE = Fixture(__name__, start, lambda: "" if find_spec("dlt") else "the extra `dlt` is not installed")
