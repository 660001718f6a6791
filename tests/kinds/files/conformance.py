"""A folder with one file, for the promises that every kind keeps."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from flows.declare import Merge, Rule
from flows.kinds.files import Csv, Files, FileTable, Settled
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture, Items

SOURCE = Files(
    "conform",
    connection="conform",
    ready=Settled("0 s"),
    tables=[
        FileTable(
            "items",
            match="items.csv",
            key="id",
            load=Merge(),
            format=Csv(delimiter=";"),
            columns={"id": "bigint", "name": "text", "amount": "integer"},
            rules=(Rule("amount_not_negative", "amount >= 0"),),
            max_quarantined=0.5,
        )
    ],
)


@dataclass
class FilesEnd(End):
    """A file that is renamed into the folder, whole, after each change."""

    path: Path = field(kw_only=True)
    rows: list[tuple[int, str, int]] = field(default_factory=list)

    def keep(self, rows: list[tuple[int, str, int]]) -> None:
        self.rows = rows
        text = io.StringIO()
        writer = csv.writer(text, delimiter=";")
        writer.writerows([("id", "name", "amount"), *rows])
        coming = self.path.with_suffix(".coming")
        coming.write_text(text.getvalue(), encoding="utf-8")
        coming.rename(self.path)

    def write(self, *items: tuple[int, str, int]) -> None:
        changed = {item[0] for item in items}
        self.keep([row for row in self.rows if row[0] not in changed] + list(items))

    def delete(self, number: int) -> None:
        self.keep([row for row in self.rows if row[0] != number])

    def double(self, number: int, name: str | None = None) -> None:
        self.keep(self.rows + [(row[0], name or row[1], row[2]) for row in self.rows if row[0] == number])

    def held(self) -> Items:
        return {row[0]: row[1:] for row in self.rows}

    @contextmanager
    def broken(self) -> Iterator[None]:
        away = self.path.parent.with_suffix(".away")
        self.path.parent.rename(away)
        yield
        away.rename(self.path.parent)


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    drop = folder / "drop"
    drop.mkdir()
    end = FilesEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": str(drop), "MEDALLION_SOURCE_CONFORM_KEY": SECRET},
        item="id, name, amount",
        swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=("file", f"{drop}/items.csv"),
        path=drop / "items.csv",
    )
    end.keep([])
    yield end


FIXTURE = Fixture(__name__, start, lambda: "" if find_spec("pyarrow") else "the extra `files` is not installed")
