"""Rows of delimited text: dialects, headers, types, and rows that are refused with their file and line."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from flows.access.mask_key import mask_key
from flows.declare import Append, Hashed, Masked, Merge
from flows.kinds.files import Csv, FileTable
from flows.values.errors import DataRefused, DeclarationError, SchemaDrift
from tests.kinds.everywhere import tables_with
from tests.kinds.files.loading import LINES, Drop
from tests.kinds.loading import rows, setting

COMMAS = replace(LINES, format=Csv(), max_quarantined=0.9)


def of_type(kind: str, **csv: Any) -> FileTable:
    return FileTable(
        "lines", match="*.csv", load=Append(), columns={"n": "text", "v": kind}, format=Csv(delimiter=";", **csv),
        max_quarantined=0.95,
    )  # fmt: skip


TYPES: dict[str, tuple[FileTable, list[tuple[str, Any]], list[str]]] = {
    "integer": (
        of_type("integer"),
        [("007", 7), ("-5", -5), ("2147483647", 2147483647), ("+1", 1), ("", None), ('""', None)],
        ["0x10", " 9 ", "1_000", "2147483648", "1.0", "1e3"],
    ),
    "bigint": (of_type("bigint"), [("9223372036854775807", 9223372036854775807)], ["9223372036854775808"]),
    "money": (
        of_type("numeric(14,2)"),
        [("1234.5", Decimal("1234.50")), ("1.500", Decimal("1.50")), ("-0.01", Decimal("-0.01"))],
        ["1.005", "1,5", "NaN", "1234567890123.00", "$5", "12 "],
    ),
    "money with a decimal comma": (
        of_type("numeric(14,2)", decimal=","),
        [("1234,5", Decimal("1234.50"))],
        ["1.234,50", "1.5", "1,2,3"],
    ),
    "money with thousands": (
        of_type("numeric(14,2)", decimal=",", thousands="."),
        [("1.234.567,5", Decimal("1234567.50")), ("12,5", Decimal("12.50"))],
        ["1.5", "12.34,5", "1.234.5"],
    ),
    "double precision": (of_type("double precision"), [("1e5", 100000.0), ("0.1", 0.1)], ["1,5", "0x1p3", "one"]),
    "boolean": (of_type("boolean"), [("true", True), ("N", False), ("1", True)], ["2", "maybe", "tru"]),
    "date": (
        of_type("date"),
        [("2024-02-29", date(2024, 2, 29)), ("2026-12-31", date(2026, 12, 31))],
        ["2026-02-29", "now", "today", "01/02/2026", "20260101", "infinity", "2026-13-01"],
    ),
    "date as declared": (
        of_type("date", dates="DD.MM.YYYY"),
        [("03.04.2026", date(2026, 4, 3))],
        ["2026-04-03", "04.31.2026", "3.4.2026"],
    ),
    "timestamp as declared": (
        of_type("timestamp", dates="DD.MM.YYYY HH24:MI"),
        [("03.04.2026 05:06", datetime(2026, 4, 3, 5, 6))],
        ["03.04.2026", "03.04.2026 25:00"],
    ),
    "timestamptz": (
        of_type("timestamptz"),
        [("2026-01-01T12:00:00Z", "2026-01-01 12:00:00+00"), ("2026-01-01 12:00+02:00", "2026-01-01 10:00:00+00")],
        ["2026-01-01 12:00:00", "2026-01-01", "2026-01-01 12:00 BC"],
    ),
    "timestamptz in a zone": (
        of_type("timestamptz", zone="Europe/Berlin"),
        [("2026-07-01 12:00", "2026-07-01 10:00:00+00"), ("2026-07-01T12:00Z", "2026-07-01 12:00:00+00")],
        ["2026-07-01", "yesterday"],
    ),
    "uuid": (of_type("uuid"), [("6f1ed002-ab5c-42ee-9b1f-0d1c7a1f9b11", ...)], ["6f1ed002", "{}"]),
    "jsonb": (of_type("jsonb", quote=""), [('{"a": 1}', {"a": 1}), ("3", 3)], ["{a: 1}", "{"]),
}


@pytest.mark.parametrize("case", TYPES)
async def test_texts_become_values_exactly_or_their_row_is_refused(drop: Drop, case: str) -> None:
    table, values, refused = TYPES[case]
    texts = [text for text, _ in values] + refused
    drop.put("a.csv", "n;v\n" + "".join(f"{number};{text}\n" for number, text in enumerate(texts)))

    result = await drop.load(table)

    selected = "v::text" if "timestamptz" in case else "v"
    found = drop.raw(f"n::int, {selected}")
    assert [number for number, _ in found] == list(range(len(values)))
    for (_, value), (_, expected) in zip(found, values, strict=True):
        assert expected is ... or value == expected
    kept = drop.quarantine()
    assert [(one["v"], one["_file"], one["_line"], one["rule"]) for one in kept] == [
        (text, "a.csv", len(values) + number + 2, "value_fits_type") for number, text in enumerate(refused)
    ]
    assert result.counts.reconciliation == "match"


async def test_without_declared_types_nothing_is_guessed(drop: Drop) -> None:
    drop.put("a.csv", 'a,b,c,d\n0012,1e5,2026-01-01,true\n,"",NULL,0x10\n')

    await drop.load(COMMAS)

    assert drop.raw("a, b, c, d") == [("0012", "1e5", "2026-01-01", "true"), (None, "", "NULL", "0x10")]


async def test_each_row_knows_its_line_whatever_is_between(drop: Drop) -> None:
    drop.put("a.csv", 'first\nsecond\nid,t\r\n1,"a\nb\r\nc"\n\n2,in"ch\r3,"q ""q"""\n4,x,y\n5,"x\ny\nz",1\n6,end')

    await drop.load(replace(COMMAS, format=Csv(skip=2)))

    assert drop.raw("id, t, _line") == [
        ("1", "a\nb\r\nc", 4), ("2", 'in"ch', 8), ("3", 'q "q"', 9), ("6", "end", 14)
    ]  # fmt: skip
    assert [(one["_line"], one["text"], one["rule"]) for one in drop.quarantine()] == [
        (10, "4,x,y", "row_has_all_columns"),
        (11, '5,"x\ny\nz",1', "row_has_all_columns"),
    ]


async def test_lines_are_counted_beyond_a_block(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kinds.files.parse.BLOCKS", (4096, 1 << 20))
    monkeypatch.setattr("flows.kinds.files.stage.BLOCKS", (4096, 1 << 20))
    monkeypatch.setattr("flows.kinds.files.stage.TOGETHER", 10_000)
    lines, line, expected = ["id,t"], 2, list[tuple[int, int]]()
    for number in range(2_000):
        if number % 97 == 5:
            lines.append(f"{number},x,y")
            line += 1
            continue
        expected.append((number, line))
        long = "z" * 9000 if number == 1_500 else "x"
        lines.append(f'{number},"{long}\n{number}"' if number % 13 == 0 else f"{number},{long}")
        line += 1 + (number % 13 == 0)
    drop.put("a.csv", "\n".join(lines) + "\n")

    await drop.load(COMMAS)

    assert drop.raw("id::int, _line") == expected
    assert len(drop.quarantine()) == 2_000 - len(expected)


async def test_a_large_file_that_ends_badly_leaves_nothing(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kinds.files.stage.TOGETHER", 1_000)
    monkeypatch.setattr("flows.kinds.files.stage.BLOCKS", (2048, 1 << 20))
    drop.put("a.csv", "id,v\n" + "".join(f"{number},{number}\n" for number in range(3_000)) + "1")
    drop.put("b.csv", "id,v\n1,2\n")
    drop.put("c.csv", "id,v\n" + "".join(f"{number},{number % 7 or 'x'}\n" for number in range(3_000)))

    result = await drop.load(replace(COMMAS, columns={"id": "integer", "v": "integer"}))

    assert "a.csv: its last line has fewer columns and no end" in str(result.warning)
    assert len(drop.raw("id, v")) == 1 + 3_000 - 429
    assert len(drop.quarantine()) == 429


async def test_rows_with_a_quote_that_does_not_end_are_refused_and_not_joined(drop: Drop) -> None:
    drop.put("a.csv", 'a,b,c\n1,"open,x\n2,b,c\n3,d,"e"\n4,f,g\n')

    await drop.load(COMMAS)

    assert drop.raw("a, b, c") == [("4", "f", "g")]
    (kept,) = drop.quarantine()
    assert "2,b,c" in kept["text"]


async def test_nul_and_broken_utf8_refuse_their_row_alone(drop: Drop) -> None:
    drop.put("a.csv", b"a,b\n1,x\n2,\x00\n3,\xff\xfe\n4,\xc3\xbc\n")

    await drop.load(COMMAS)

    assert drop.raw("a, b") == [("1", "x"), ("4", "ü")]
    assert sorted((one["_line"], one["rule"]) for one in drop.quarantine()) == [
        (3, "text_holds_no_nul"), (4, "text_is_utf8")
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "utf-16-le"])
async def test_other_encodings_are_read_as_declared(drop: Drop, encoding: str) -> None:
    drop.put("a.csv", "größe;y\nü€;2\n".encode(encoding))
    await drop.load(format=Csv(delimiter=";", encoding=encoding))
    assert drop.raw('"größe", y') == [("ü€", "2")]


async def test_columns_are_found_by_their_headers(drop: Drop) -> None:
    table = replace(
        COMMAS, columns={"amount": "numeric", "id": "bigint"}, headers={"Betrag (EUR)": "amount"}, optional=("id",)
    )
    drop.put("a.csv", "id,Betrag (EUR)\n1,1.5\n")
    drop.put("b.csv", "note,Betrag (EUR) ,id\nnew,2.5,2\n")
    drop.put("c.csv", "Betrag (EUR)\n3.5\n")
    drop.put("d.csv", "id,note\n4,lacks it\n")

    result = await drop.load(table)

    assert "d.csv: it lacks column amount" in str(result.warning)
    assert drop.raw("id, amount, note") == [
        (1, Decimal("1.5"), None), (2, Decimal("2.5"), "new"), (None, Decimal("3.5"), None)
    ]  # fmt: skip
    drop.put("e.csv", "id,Betrag (EUR),other\n5,5,x\n")
    assert "new column other" in str((await drop.load(table, on_drift="freeze")).warning)
    await drop.load(table)
    assert drop.raw("id, other")[2] == (5, "x")


async def test_a_declared_type_that_changes_what_raw_has_is_refused(drop: Drop) -> None:
    drop.put("a.csv", "id,v\n1,1\n")
    await drop.load(COMMAS)
    drop.put("b.csv", "id,v\n2,2\n")
    with pytest.raises(SchemaDrift, match="column v is now bigint"):
        await drop.load(COMMAS, columns={"v": "bigint"})


async def test_files_without_headers_have_the_declared_columns_in_order(drop: Drop) -> None:
    table = replace(LINES, format=Csv(delimiter=";", header="none"), columns={"id": "bigint", "name": "text"})
    drop.put("a.csv", "1;one\n2;two;2\n")
    await drop.load(table, max_quarantined=0.9)
    drop.put("b.csv", "ID;NAME\n3;three\n")
    await drop.load(table, format=Csv(delimiter=";", header="by_position"))
    assert drop.raw("id, name") == [(1, "one"), (3, "three")]


async def test_a_file_with_only_a_header_and_a_long_header_are_files_like_others(drop: Drop) -> None:
    names = [f"column_{number}_{'x' * 40}" for number in range(900)]
    drop.put("a.csv", ",".join(names) + "\n")
    result = await drop.load(COMMAS)
    assert (result.counts.rows_read, result.warning) == (0, None)
    drop.put("b.csv", ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert (await drop.load(COMMAS)).counts.rows_inserted == 1


async def test_a_refused_row_that_is_fixed_in_a_new_version_of_the_file_leaves_quarantine(drop: Drop) -> None:
    table = replace(COMMAS, key="id", load=Merge(), columns={"id": "bigint", "v": "integer"})
    drop.put("a.csv", "id,v\n1,1\n2,two\n3,3,3\n")
    first = await drop.load(table)
    assert (first.counts.rows_quarantined, first.counts.reconciliation) == (2, "match")
    assert sorted(one["_line"] for one in drop.quarantine()) == [3, 4]

    drop.put("a.csv", "id,v\n1,1\n2,2\n3,3,4\n")
    partly = await drop.load(table)
    assert [one["text"] for one in drop.quarantine()] == ["3,3,4"]
    assert partly.counts.reconciliation == "match"

    drop.put("a.csv", "id,v\n1,1\n2,2\n3,3\n")
    again = await drop.load(table)

    assert drop.raw("id, v") == [(1, 1), (2, 2), (3, 3)]
    assert (drop.quarantine(), again.counts.reconciliation) == ([], "match")


async def test_too_many_refused_rows_refuse_the_load(drop: Drop) -> None:
    drop.put("a.csv", "id,v\n1,1\n2,two\n")
    with pytest.raises(DataRefused, match=r"1 of 2 rows break a rule .value_fits_type: 1"):
        await drop.load(COMMAS, max_quarantined=0.0, columns={"v": "integer"})


async def test_what_is_masked_is_nowhere_in_the_warehouse(drop: Drop) -> None:
    table = replace(COMMAS, masked={"mail": Hashed(), "iban": Masked(keep=2)}, columns={"v": "integer"})
    drop.put(
        "a.csv",
        "mail,iban,v\nzqperson1@x.org,zqperson1234,1\nzqperson2@x.org,zqperson9999,two\nzqperson3@x.org,zqperson3,3,zqperson4\n",
    )
    with setting(mask_key="a key for hashes in tests, of 40 characters"):
        await drop.load(table)
        hashed = mask_key().hash("zqperson1@x.org")

    assert drop.raw("mail, iban, v") == [(hashed, "***34", 1)]
    assert tables_with(drop.warehouse, "zqperson") == []
    assert sorted(one["_line"] for one in drop.quarantine()) == [3, 4]


async def test_a_row_taken_for_a_sure_one_that_postgresql_refuses_is_asked_about(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kinds.files.types._INTEGERS", {"smallint": 4, "integer": 15, "bigint": 18})
    drop.put("a.csv", "id,v\n1,99999999999\n2,2\n")

    await drop.load(COMMAS, columns={"v": "integer"})

    assert drop.raw("id, v") == [("2", 2)]
    assert [one["v"] for one in drop.quarantine()] == ["99999999999"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "merge without a key": ({"load": Merge()}, "a merge needs a key"),
    "type": ({"columns": {"a": "money"}}, "the type 'money' of column a is unknown"),
    "reserved": ({"columns": {"_line": "text"}}, "raw cannot have a column '_line'"),
    "pattern": ({"match": "../x.csv"}, "does not stay within the folder"),
    "brace": ({"match": "{Day}.csv"}, "a brace names no column"),
    "twice": ({"match": "{a}{a}.csv"}, "is there twice"),
    "path and file": ({"match": "{a}.csv", "columns": {"a": "text"}}, "a part of the path and a column"),
    "optional key": ({"key": "a", "optional": ("a",)}, "of the key is optional"),
    "same_name": ({"same_name": "merge"}, "same_name 'merge' is not supported"),
    "drift": ({"on_drift": "quarantine"}, "on_drift 'quarantine' is not supported"),
    "no columns": ({"format": Csv(header="none")}, "need columns in their order"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_contradicts_itself_is_refused(case: str) -> None:
    changed, said = REFUSED[case]
    with pytest.raises(DeclarationError, match=said):
        replace(LINES, **changed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": "||"}, "not one ASCII character"),
        ({"encoding": "klingon"}, "encoding 'klingon' is unknown"),
        ({"decimal": ",", "thousands": ","}, "do not say how a number is written"),
        ({"trailer": "("}, "no regular expression"),
        ({"dates": "DD.MM"}, "where year, month and day are"),
        ({"header": "guess"}, "header 'guess' is unknown"),
    ],
)
def test_a_format_that_contradicts_itself_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Csv(**options)


async def test_a_load_says_nothing_of_the_rows_it_refuses(drop: Drop) -> None:
    drop.put("a.csv", "id,v\n1,zqsecret\n2,zq,zqsecret\n" + "3,3\n" * 8)
    result = await drop.load(COMMAS, columns={"v": "integer"})
    stored = rows(
        drop.warehouse, "select l::text as t from ops.loads as l union all select f::text from ops.files as f"
    )
    assert "zqsecret" not in repr(result) + repr(stored)
