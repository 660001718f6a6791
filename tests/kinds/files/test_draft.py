"""A declaration drafted from a file: what it says of types holds for every row."""

import gzip
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from flows.access.addresses import SourceAddress
from flows.declare import Masked
from flows.kinds.answers import Ends
from flows.kinds.files import Csv, Files
from flows.kinds.files.draft import draft_files
from flows.kinds.files.kind import FileDrops
from flows.values.connection import DatabaseConnection
from flows.values.errors import DeclarationError, SourceError
from tests.kinds.files.loading import LINES, Drop


def drafted(text: str, folder: Path) -> Files:
    written = folder / "drafted.py"
    written.write_text(text, encoding="utf-8")
    (source,) = [value for value in runpy.run_path(str(written)).values() if isinstance(value, Files)]
    return source


def test_types_hold_for_the_whole_file_and_what_contradicts_is_said(tmp_path: Path) -> None:
    rows = [f"{number};{number:04};{number}.5;2026-01-{number % 28 + 1:02};{'yes' if number % 2 else 'no'};x"
            for number in range(1, 1000)]  # fmt: skip
    rows += ["x1;1000;7;2026-02-01;yes;", "1001;1001;8.25;2026-02-02;no;y;z"]
    path = tmp_path / "prices-2026-01-31.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["id;code;price;day;open;nöte", *rows, ""]).encode("cp1252")))

    text = draft_files("shop_files", str(path))

    table = drafted(text, tmp_path).table("prices")
    assert table.columns == {
        "id": "text", "code": "text", "price": "numeric", "day": "date", "open": "boolean", "nöte": "text"
    }  # fmt: skip
    assert (table.format.written.delimiter, table.format.written.encoding) == (";", "cp1252")
    assert table.match == "prices-{file_day:%Y-%m-%d}.csv.gz"
    assert '"id": "text",  # bigint, but for 1 of 1,000 values' in text
    assert '"code": "text",  # 999 values begin with a zero or are very long: codes, not numbers' in text
    assert "# 1 of 1,001 rows do not have these columns" in text
    assert "x1" not in text


async def test_a_preview_shows_the_first_rows_of_the_newest_file(drop: Drop) -> None:
    table = replace(LINES, columns={"v": "integer"}, match="{day:%Y-%m-%d}.csv", masked={"mail": Masked()})
    address = SourceAddress(str(drop.root))
    ends = Ends(DatabaseConnection("warehouse", "postgresql://nowhere"), address, drop.source(table), table)
    with pytest.raises(SourceError, match="no file matches"):
        await FileDrops().preview(ends, 2)
    drop.put("2026-01-01.csv", "v;mail\n9;old@x.org\n")
    drop.put("2026-01-02.csv", "v;mail\n1;ada@x.org\nx;ada@x.org\n3;ada@x.org\n")

    seen = await FileDrops().preview(ends, 2)

    assert [json.loads(record) for record in seen.records] == [
        {"v": value, "mail": "***", "day": "2026-01-02", "_file": "2026-01-02.csv", "_line": line}
        for value, line in (("1", "2"), ("x", "3"))
    ]
    assert seen.fields == {"v": "integer", "mail": "text", "day": "date"}


async def test_a_preview_shows_a_value_that_is_not_written_as_declared_as_the_file_has_it(drop: Drop) -> None:
    table = replace(LINES, columns={"v": "numeric"}, format=Csv(delimiter=";", decimal=","))
    ends = Ends(
        DatabaseConnection("warehouse", "postgresql://nowhere"),
        SourceAddress(str(drop.root)),
        drop.source(table),
        table,
    )
    drop.put("a.csv", "v\n1.234,50\n5,5\n")
    seen = await FileDrops().preview(ends, 2)
    assert [json.loads(record)["v"] for record in seen.records] == ["1.234,50", "5.5"]


def test_a_file_that_cannot_be_read_drafts_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="is no file"):
        draft_files("drop", str(tmp_path / "nothing.csv"))
    (tmp_path / "a.csv").write_text("x,x\n1,2\n")
    with pytest.raises(DeclarationError, match="its header has x twice"):
        draft_files("drop", str(tmp_path / "a.csv"))
