"""JSON lines, Parquet and lines of fixed width: exact values, and refused rows with their file and line."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from flows.declare import Append, Hashed, Merge
from flows.kinds.files import FileTable, FixedWidth, JsonLines, Parquet
from flows.values.errors import DeclarationError
from tests.kinds.everywhere import tables_with
from tests.kinds.files.loading import Drop
from tests.kinds.loading import rows, setting

EVENTS = FileTable(
    "lines", match="*.jsonl*", load=Append(), format=JsonLines(), columns={"id": "bigint", "at": "timestamptz"},
    max_quarantined=0.9,
)  # fmt: skip


async def test_objects_are_kept_as_they_are_beside_the_declared_fields(drop: Drop) -> None:
    lines = ['{"id": 1, "at": "2026-01-01T00:00:00Z", "n": 1.10}', "", '{"id": 2, "more": {"a": [1, "ü"]}}']
    drop.put("a.jsonl", "\r\n".join(lines))

    result = await drop.load(EVENTS)

    assert drop.raw("id, at, payload, _line") == [
        (1, datetime(2026, 1, 1, tzinfo=UTC), {"id": 1, "at": "2026-01-01T00:00:00Z", "n": 1.1}, 1),
        (2, None, {"id": 2, "more": {"a": [1, "ü"]}}, 3),
    ]
    assert rows(drop.warehouse, "select payload ->> 'n' as n from raw_drop.lines where id = 1") == [{"n": "1.10"}]
    assert result.counts.reconciliation == "match"


async def test_lines_that_are_no_object_or_do_not_fit_are_refused_alone(drop: Drop) -> None:
    bad = [
        "[1]",
        "{",
        '{"id": "x"}',
        '{"id": 3, "t": "\\u0000"}',
        '{"id": 4, "t": "\\ud800"}',
        '{"id": 5, "n": 1e99999}',
    ]
    drop.put("a.jsonl", "\n".join(['{"id": 1}', *bad, '{"id": "2"}', '{"id": 9}']) + "\n")

    await drop.load(EVENTS)

    assert [row[0] for row in drop.raw("id, _line")] == [1, 2, 9]
    assert sorted((one["_line"], one["rule"]) for one in drop.quarantine()) == [
        (2, "row_is_json_object"), (3, "row_is_json_object"), (4, "value_fits_type"), (5, "payload_holds_nul"),
        (6, "row_is_json_object"), (7, "payload_number_too_large"),
    ]  # fmt: skip


async def test_json_that_was_cut_short_is_left_alone(drop: Drop) -> None:
    drop.put("a.jsonl", '{"id": 1}\n{"id": 2, "na')
    result = await drop.load(EVENTS)
    assert "a.jsonl: its last line is no whole object" in str(result.warning)
    assert result.counts.rows_read == 0


async def test_a_masked_field_needs_json_without_its_payload(drop: Drop) -> None:
    with pytest.raises(DeclarationError, match="masked beside the payload"):
        replace(EVENTS, masked={"mail": Hashed()})
    drop.put(
        "a.jsonl", '{"id": 1, "mail": "zqperson@x.org"}\n{"id": "x", "mail": "zqperson@x.org"}\n{"id": zqperson}\n'
    )
    with setting(mask_key="a key for hashes in tests, of 40 characters"):
        await drop.load(EVENTS, masked={"mail": Hashed()}, format=JsonLines(payload=False))
    assert len(drop.raw("mail, id")) == 1
    assert tables_with(drop.warehouse, "zqperson") == []


FIXED = FileTable(
    "lines", match="*.txt", load=Append(), columns={"n": "numeric(8,2)"}, max_quarantined=0.9,
    format=FixedWidth({"id": (0, 4), "name": (4, 10), "n": (10, 16)}, decimal=","),
)  # fmt: skip


async def test_lines_of_fixed_width_are_cut_at_their_places(drop: Drop) -> None:
    lines = [
        "0001Änne  001,50",
        "0002       12,25",
        "0003short",
        "0004toolong 1,00 x",
        "0005Zoë       1 ",
        "0006bad   1.5.0 ",
    ]
    drop.put("a.txt", "\n".join(lines) + "\n\n")

    result = await drop.load(FIXED)

    assert drop.raw("id, name, n, _line") == [
        ("0001", "Änne", Decimal("1.50"), 1), ("0002", None, Decimal("12.25"), 2), ("0005", "Zoë", Decimal("1.00"), 5)
    ]  # fmt: skip
    assert sorted((one["_line"], one["rule"]) for one in drop.quarantine()) == [
        (3, "row_has_all_columns"), (4, "row_has_all_columns"), (6, "value_fits_type")
    ]  # fmt: skip
    assert result.counts.reconciliation == "match"
    drop.put("b.txt", "0001Änne  001,50\n0007")
    assert "b.txt: its last line has fewer columns and no end" in str((await drop.load(FIXED)).warning)


def test_places_that_overlap_are_refused() -> None:
    with pytest.raises(DeclarationError, match="column b begins before another one ends"):
        FixedWidth({"a": (0, 4), "b": (3, 5)})
    with pytest.raises(DeclarationError, match="column x has no place in the lines"):
        replace(FIXED, columns={"x": "text"})


VALUES: dict[str, tuple[pa.DataType, Any, str, str]] = {
    "i": (pa.int32(), -7, "integer", "-7"),
    "u": (pa.uint64(), 2**64 - 1, "numeric(20,0)", "18446744073709551615"),
    "d": (pa.decimal128(14, 2), Decimal("1234.50"), "numeric(14,2)", "1234.50"),
    "f": (pa.float64(), 0.1, "double precision", "0.1"),
    "b": (pa.bool_(), True, "boolean", "true"),
    "t": (pa.string(), 'ü, "q"\n', "text", 'ü, "q"\n'),
    "e": (pa.string(), "", "text", ""),
    "day": (pa.date32(), date(2026, 2, 28), "date", "2026-02-28"),
    "at": (pa.timestamp("us", "Europe/Berlin"), datetime(2026, 7, 1, 10, tzinfo=UTC), "timestamp with time zone",
           "2026-07-01 10:00:00+00"),
    "local": (pa.timestamp("ms"), datetime(2026, 7, 1, 10, 0, 0, 5000), "timestamp without time zone",
              "2026-07-01 10:00:00.005"),
    "raw": (pa.binary(), b"\x00\xff", "bytea", "\\x00ff"),
    "nested": (pa.struct([("a", pa.list_(pa.int64()))]), {"a": [1, 2]}, "jsonb", '{"a": [1, 2]}'),
    "cat": (pa.dictionary(pa.int32(), pa.string()), "x", "text", "x"),
}  # fmt: skip
FRAMES = FileTable("lines", match="*.parquet", load=Append(), format=Parquet())


def frame(drop: Drop, name: str, **columns: pa.Array) -> None:
    parquet.write_table(pa.table(columns), drop.root / name)


async def test_parquet_has_the_types_and_the_values_of_its_file(drop: Drop) -> None:
    frame(drop, "a.parquet", **{name: pa.array([None, value], kind) for name, (kind, value, _, _) in VALUES.items()})

    result = await drop.load(FRAMES)

    found = rows(
        drop.warehouse,
        "select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute "
        "where attrelid = 'raw_drop.lines'::regclass and attnum > 0",
    )
    types = {row["name"]: row["type"] for row in found}
    assert {name: types[name] for name in VALUES} == {name: kind for name, (_, _, kind, _) in VALUES.items()}
    texts = ", ".join(f'"{name}"::text' for name in VALUES)
    assert drop.raw(f"_line, {texts}") == [(1, *[None] * len(VALUES)), (2, *[text for *_, text in VALUES.values()])]
    assert result.counts.reconciliation == "match"


async def test_parquet_that_changes_its_types_is_widened_or_left_alone(drop: Drop) -> None:
    frame(drop, "a.parquet", x=pa.array([1], pa.int32()))
    await drop.load(FRAMES)
    frame(drop, "b.parquet", x=pa.array([2**40], pa.int64()))
    frame(drop, "c.parquet", x=pa.array([3], pa.int16()))
    frame(drop, "d.parquet", x=pa.array(["four"]))

    result = await drop.load(FRAMES)

    assert "d.parquet: its column x is text, and that of the table is bigint" in str(result.warning)
    assert drop.raw("x, _file") == [(1, "a.parquet"), (3, "c.parquet"), (2**40, "b.parquet")]


async def test_declared_types_of_parquet_and_its_inexact_values(drop: Drop) -> None:
    moments = pa.array([1_000, 1_001, None], pa.timestamp("ns"))
    frame(drop, "a.parquet", id=pa.array(["1", "2", "x"]), at=moments, n=pa.array([1.5, 2.5, float("nan")]))

    await drop.load(replace(FRAMES, columns={"id": "bigint"}, max_quarantined=0.9))

    assert [(row[0], str(row[1])) for row in drop.raw("id, n")] == [(1, "1.5")]
    assert sorted((one["_line"], one["rule"]) for one in drop.quarantine()) == [
        (2, "value_fits_type"), (3, "value_fits_type")
    ]  # fmt: skip


async def test_parquet_that_was_cut_short_is_left_alone(drop: Drop) -> None:
    frame(drop, "a.parquet", x=pa.array([1]))
    (drop.root / "a.parquet").write_bytes((drop.root / "a.parquet").read_bytes()[:-10])
    result = await drop.load(FRAMES)
    assert "a.parquet: it is no Parquet file, or was cut short" in str(result.warning)


async def test_parquet_is_merged_by_its_key_once(drop: Drop) -> None:
    frame(drop, "a.parquet", id=pa.array([1, 2]), v=pa.array([json.dumps({"a": 1}), "x"]))
    await drop.load(FRAMES, key="id", load=Merge(), columns={"id": "bigint"})
    frame(drop, "a.parquet", id=pa.array([2, 3]), v=pa.array(["y", "z"]))
    await drop.load(FRAMES, key="id", load=Merge(), columns={"id": "bigint"})
    assert drop.raw("id, v") == [(2, "y"), (3, "z")]
