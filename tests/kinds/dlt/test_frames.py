"""Arrow tables and data frames of dlt resources into raw: exact types, columns that come, rows that do not fit."""

import datetime
import json
from decimal import Decimal

import pytest

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

import pyarrow as pa

from flows.kinds.dlt import Resource
from flows.values.errors import DataRefused, DeclarationError, SchemaDrift
from tests.conftest import TestDatabase
from tests.kinds.dlt import sources
from tests.kinds.dlt.loading import load, raw
from tests.kinds.dlt.sources import table
from tests.kinds.loading import open_quarantine, rows

pytestmark = pytest.mark.xdist_group("dlt")

FRAMES = Resource("frames", columns=True)
DAY = datetime.datetime(2026, 1, 1, 9, 0, tzinfo=datetime.UTC)


@pytest.fixture
def frames() -> list[pa.Table]:
    sources.FRAMES.clear()
    return sources.FRAMES


async def test_arrow_tables_land_exactly_in_columns_of_their_own(
    warehouse: TestDatabase, frames: list[pa.Table]
) -> None:
    precise = Decimal("12345678901234567890.123456789")
    frames.append(
        table(
            id=pa.array([1, 2], pa.int64()),
            amount=pa.array([precise, None], pa.decimal128(38, 9)),
            at=pa.array([DAY, None], pa.timestamp("us", "Europe/Berlin")),
            local=pa.array([datetime.datetime(2026, 1, 1, 0, 0, 0, 1), None], pa.timestamp("us")),
            day=pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)], pa.date32()),
            ratio=pa.array([0.1, float("nan")], pa.float64()),
            big=pa.array([2**64 - 1, 0], pa.uint64()),
            flag=pa.array([True, None], pa.bool_()),
            note=pa.array(['Grüße, "quoted"\n\\.\n', ""], pa.string()).dictionary_encode(),
            blob=pa.array([b"\x00\xff", None], pa.binary()),
            took=pa.array([datetime.timedelta(hours=25, microseconds=1), None], pa.duration("us")),
            clock=pa.array([datetime.time(23, 59, 59, 999999), None], pa.time64("us")),
            tags=pa.array([[{"a": Decimal("1.50")}], None], pa.list_(pa.struct([("a", pa.decimal128(5, 2))]))),
            empty=pa.nulls(2),
        )
    )

    await load(warehouse, "frames", FRAMES)

    names = "amount::text, at = '2026-01-01 09:00+00' as at, local::text, day::text, ratio::text, big::text, flag, note"
    first, second = raw(warehouse, "frames", f"{names}, blob::text, took::text, clock::text, tags::text", "id")
    assert first == {
        "amount": str(precise), "at": True, "local": "2026-01-01 00:00:00.000001", "day": "0001-01-01",
        "ratio": "0.1", "big": "18446744073709551615", "flag": True, "note": 'Grüße, "quoted"\n\\.\n',
        "blob": "\\x00ff", "took": "25:00:00.000001", "clock": "23:59:59.999999", "tags": '[{"a": 1.50}]',
    }  # fmt: skip
    assert (second["amount"], second["ratio"], second["note"], second["day"]) == (None, "NaN", "", "9999-12-31")
    types = rows(
        warehouse,
        "select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute "
        "where attrelid = 'raw_crm.frames'::regclass and attnum > 0 and attname not like '\\_%' order by attnum",
    )
    assert {row["name"]: row["type"] for row in types} == {
        "id": "bigint", "amount": "numeric(38,9)", "at": "timestamp with time zone",
        "local": "timestamp without time zone", "day": "date", "ratio": "double precision", "big": "numeric(20,0)",
        "flag": "boolean", "note": "text", "blob": "bytea", "took": "interval", "clock": "time without time zone",
        "tags": "jsonb",
    }  # fmt: skip
    assert (await load(warehouse, "frames", FRAMES)).counts.rows_unchanged == 2


async def test_rows_that_a_type_of_postgresql_cannot_hold_go_to_quarantine_whole(
    warehouse: TestDatabase, frames: list[pa.Table]
) -> None:
    """A rounded nanosecond, or a year cut off, would be another value than the source's."""
    frames.append(
        table(
            id=pa.array([1, 2, 3, 4], pa.int32()),
            at=pa.array([1_000, 1_001, 2_000, 3_000], pa.timestamp("ns")),
            day=pa.array([0, 0, 2_932_897, 0], pa.date32()),
            note=pa.array(["a", "b", "c", "n\0ul"]),
        )
    )
    with pytest.raises(DataRefused, match="3 of 4 rows break a rule"):
        await load(warehouse, "frames", FRAMES)

    result = await load(warehouse, "frames", Resource("frames", columns=True, max_quarantined=0.9))

    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (1, 3)
    kept = {
        row["row_key"]["id"]: (row["rule"], json.loads(row["row_data"]["text"])) for row in open_quarantine(warehouse)
    }
    assert {rule for rule, _ in kept.values()} == {"value_fits_type"}
    assert kept[2][1]["at"] == "1970-01-01 00:00:00.000001001"
    assert (kept[3][1]["day"], kept[4][1]["note"]) == (2_932_897, "n\0ul")


async def test_columns_may_come_widen_and_stay_away_in_the_middle_of_a_read(
    warehouse: TestDatabase, frames: list[pa.Table]
) -> None:
    frames += [
        table(id=pa.array([1], pa.int16()), a=pa.nulls(1)),
        table(id=pa.array([2], pa.int64()), a=pa.array([7], pa.int32()), b=["x"]),
        table(id=pa.array([3], pa.int32())),
    ]
    await load(warehouse, "frames", FRAMES)
    assert raw(warehouse, "frames", "id, a, b") == [
        {"id": 1, "a": None, "b": None},
        {"id": 2, "a": 7, "b": "x"},
        {"id": 3, "a": None, "b": None},
    ]
    frames[:] = [table(id=pa.array([1], pa.int16()), a=pa.array([2**40], pa.int64()), b=pa.nulls(1))]

    widened = await load(warehouse, "frames", FRAMES)

    assert widened.schema_changes == ("a retyped",)
    assert raw(warehouse, "frames", "id, a, b")[0] == {"id": 1, "a": 2**40, "b": None}
    frames[:] = [table(id=pa.array([1], pa.int64()), a=["no number"])]
    with pytest.raises(SchemaDrift, match="column a is now text at the source and bigint in raw"):
        await load(warehouse, "frames", FRAMES)
    frames[:] = []
    assert (await load(warehouse, "frames", FRAMES)).counts.rows_read == 0


async def test_a_data_frame_lands_as_an_arrow_table_does(warehouse: TestDatabase, frames: list[pa.Table]) -> None:
    frames.append(table(id=[1, 2], name=["a", None]).to_pandas())

    assert (await load(warehouse, "frames", FRAMES)).counts.rows_inserted == 2
    assert raw(warehouse, "frames", "id, name") == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]


@pytest.mark.parametrize(
    ("yielded", "resource", "move"),
    [
        ({"id": 1}, FRAMES, "remove columns=True"),
        (table(id=[1]), Resource("frames"), "declare columns=True"),
    ],
)
async def test_what_is_yielded_in_another_form_than_declared_is_refused_with_the_next_move(
    warehouse: TestDatabase, frames: list[object], yielded: object, resource: Resource, move: str
) -> None:
    frames.append(yielded)

    with pytest.raises(DeclarationError) as caught:
        await load(warehouse, "frames", resource)

    assert move in caught.value.fix
