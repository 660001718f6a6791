"""A value read out of a record before it lands is the value that PostgreSQL reads out of it afterwards."""

from collections.abc import AsyncGenerator
from contextlib import suppress

import asyncpg
import pytest

from flows.landing.record_rows import NotPlain, PayloadRows, Place
from flows.landing.records import Records, land
from flows.landing.table import Stamp, Target, create_landing, stamp_landing
from flows.values.json_path import text_at
from flows.values.shape import Column, Shape
from tests.conftest import TestDatabase
from tests.kinds.loading import Row, rows

STAMP = Stamp("2024-01-01T00:00:00.000001+00:00", 7)
TARGET = Target("shop", "things", "raw_shop")
# Left out, since both ways are sound and differ: a seventh digit of 5, rounded up here and to even there; an offset of
# 16 hours or more, taken here and refused there.
#: By type: how a value may be written, plainly and otherwise. Each is read here as PostgreSQL reads it, or not here.
VALUES: dict[str, tuple[str, ...]] = {
    "bigint": (
        "0", "-0", "7", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.0", "1e3", "-0.0",
        '"12"', '" 1"', '"1_000"', '"0x1f"', '"007"', '"\\u0661"', "true", "null", "{}",
    ),
    "text": (
        '"a"', '""', '"\\u00e9\\n\\"\\\\"', '"\\ud83d\\ude00"', '"ü"', '" "', "5", "-0", "1.50", "1e3", "true", "null",
        "[1]", '{"b": 1, "a": 2}',
    ),
    "uuid": (
        '"A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"a0eebc999c0b4ef8bb6d6bb9bd380a11"',
        '"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"', '"urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"x"', "1",
    ),
    "date": (
        '"2024-02-29"', '"0001-01-01"', '"9999-12-31"', '"1999-12-31"', '"2023-02-29"', '"0000-01-01"', '"20240101"',
        '"2024-W01-1"', '"infinity"', '"2024-1-1"', '"2024-01-01T10:00:00Z"', "20240101",
    ),
    "timestamp with time zone": (
        '"2024-01-01T10:00:00Z"', '"2024-01-01T10:00:00.1z"', '"2024-01-01t10:00:00.123456-05:30"',
        '"0001-01-01T00:00:00+00:00"', '"1969-12-31T23:59:59.999999+15:59"',
        '"0001-01-01T00:00:00+05:00"', '"9999-12-31T23:59:59-05:00"',
        '"2024-01-01T10:00:00"', '"2024-01-01T10:00:60Z"', '"2024-01-01T24:00:00Z"', '"2024-01-01 10:00:00Z"',
        '"2024-01-01T10:00:00.1234564Z"', '"2024-01-01T10:00:00.1234566Z"',
        '"2024-01-01T10:00:00.9999999Z"', '"2024-01-01T10:00:00.123456789012Z"', '"2024-01-01T10:00:00+0530"',
        '"2024-01-01T10:00:00+05"', '"2024-01-01T10:00Z"', '"2024-01-01T10Z"', '"2024-01-01T10:00:00.Z"',
        '"2024-W01-1T10:00:00Z"', '"20240101T100000Z"', '"2024-01-01T10:00:00,5Z"', '"infinity"', "1704103200",
    ),
}  # fmt: skip


async def landed(warehouse: TestDatabase, kind: str, payloads: list[bytes], *, here: bool) -> list[Row]:
    """The landing table after one page, read here if it can be, or by PostgreSQL alone."""
    shape = Shape(
        (
            Column("id", "bigint", text_at("payload", "id")),
            Column("it", kind, text_at("payload", "meta.it")),
            Column("payload", "jsonb", "payload"),
        )
    )
    # A step into a list is out of reach here.
    places = [Place("id", "bigint", ("id",) if here else ("of", "0")), Place("it", kind, ("meta", "it"))]

    async def pages() -> AsyncGenerator[Records, None]:
        yield Records(payloads)

    connection = await asyncpg.connect(warehouse.url("loader"))
    try:
        await create_landing(connection, TARGET, shape, first=False, bare=True)
        assert await land(connection, TARGET, shape, places, pages(), STAMP) == len(payloads)
        await stamp_landing(connection, TARGET, STAMP)
    finally:
        await connection.close()
    return rows(warehouse, f"select id, it::text, payload, _extracted_at, _batch_id from {TARGET.landing} order by id")


@pytest.mark.parametrize("kind", VALUES)
async def test_values_read_here_are_those_that_postgresql_reads(warehouse: TestDatabase, kind: str) -> None:
    reader = PayloadRows([Place("it", kind, ("meta", "it"))])
    records = [f'{{"id": {n}, "meta": {{"it": {value}}}}}'.encode() for n, value in enumerate(VALUES[kind])]
    plain = []
    for record in records:
        with suppress(NotPlain):
            reader.rows([record], None)
            plain.append(record)

    assert plain
    assert plain != records
    ours, theirs = await landed(warehouse, kind, plain, here=True), await landed(warehouse, kind, plain, here=False)
    assert [one for one, other in zip(ours, theirs, strict=True) if one != other] == []
    # With others among them the whole page is PostgreSQL's.
    assert await landed(warehouse, kind, records, here=True) == await landed(warehouse, kind, records, here=False)


@pytest.mark.parametrize("kind", ["date", "timestamp with time zone"])
async def test_words_that_mean_another_moment_at_each_load_are_no_values(warehouse: TestDatabase, kind: str) -> None:
    words = ("now", " Now ", "today", "tomorrow 10:00", "YESTERDAY", "epoch", "2024-01-01")
    payloads = [f'{{"id": {n}, "meta": {{"it": "{word}"}}}}'.encode() for n, word in enumerate(words)]
    held = await landed(warehouse, kind, payloads, here=True)
    assert [row["it"] is None for row in held] == [True] * 5 + [False] * 2
