"""Every way in which Debezium writes values: raw holds what the source holds. The events are recorded ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from flows.kinds.debezium import Encodings, EventTable
from flows.kinds.debezium.convert import UNDECODABLE, day
from flows.kinds.debezium.types import raw_type
from flows.kinds.debezium.values import by_schema, by_type, placeholders
from tests.conftest import TestDatabase
from tests.kinds.debezium.loading import Events, recorded, without_schemas
from tests.kinds.debezium.record import ENCODINGS, INFINITE, KINDS, TABLES
from tests.kinds.loading import rows
from tests.sessions import in_session

#: As a team declares it: the types of the source.
DECLARED = {
    "id": "integer", "price": "numeric(10,2)", "loose": "numeric", "ratio": "double precision", "single": "real",
    "small": "smallint", "yes": "boolean", "day": "date", "at_ms": "timestamp(3)", "at_us": "timestamp",
    "zoned": "timestamptz", "clock": "time", "clock_ms": "time(3)", "clock_zoned": "timetz", "span": "interval",
    "bytes": "bytea", "words": "jsonb", "doc": "jsonb", "raw_doc": "text", "ident": "uuid", "numbers": "integer[]",
    "texts": "text[]", "prices": "numeric(8,2)[]", "feeling": "text", "place": "jsonb", "flags": "bit(3)",
    "flag": "bit(1)", "loose_flags": "varbit(8)", "net": "text", "cash": "numeric(19,2)", "letters": "text",
    "whole": "text",
}  # fmt: skip
SETTINGS: Mapping[str, Encodings] = {
    "default": Encodings(),
    "string": Encodings(decimal="string", time="isostring", binary="hex", interval="string"),
    "double": Encodings(decimal="double", time="connect", binary="base64"),
    "microseconds": Encodings(time="adaptive_time_microseconds", binary="base64-url-safe"),
}
#: What an event does not have any more, whatever reads it: by the setting, the column's text for an id.
LOST: Mapping[str, Mapping[tuple[int, str], str | None]] = {
    # Trailing zeros of a number without a declared scale go, numbers that are not finite are null, and leading zeros of
    # a bit string of varying length are not sent.
    "default": {(1, "loose"): "0.1", (2, "loose"): None, (4, "loose"): None, (5, "loose"): None},
    "microseconds": {(1, "loose"): "0.1", (2, "loose"): None, (4, "loose"): None, (5, "loose"): None},
    "string": {(2, "clock_ms"): "00:00:00"},
    "double": {
        (1, "at_us"): "2024-02-29 23:59:59.123", (1, "clock"): "23:59:59.123", (1, "loose"): "0.1",
    },
}  # fmt: skip
#: The mean month of 30.436875 days, in microseconds.
SPANS = {1: "2813645.678", 2: "-31557600"}

_COLUMNS = [name for name in DECLARED if name not in ("words", "place", "span", "clock_zoned", "raw_doc", "doc")]
_CASTS = {
    "cash": "cash::numeric(19,2)",
    "feeling": "feeling::text",
    "letters": "rpad(letters::text, 4)",
    "net": "net::inet::text",
}


def _texts(database: TestDatabase, relation: str) -> dict[tuple[int, str], str | None]:
    selected = ", ".join(f"({_CASTS.get(name, name)})::text as {name}" for name in _COLUMNS)
    found = rows(database, f"select {selected} from {relation}")
    return {(int(row["id"]), name): value for row in found for name, value in row.items()}


@pytest.fixture
def source(shop: TestDatabase) -> TestDatabase:
    """The table that the events are of."""
    in_session(shop.url("admin"), "kinds", lambda session: session.execute((TABLES + KINDS + INFINITE).encode()))
    return shop


@pytest.mark.parametrize("has_schemas", [True, False], ids=["with schemas", "without schemas"])
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_values_are_those_of_the_source_however_they_are_written(
    events: Events, source: TestDatabase, encoding: str, has_schemas: bool
) -> None:
    lines = recorded(encoding)
    events.put("a.jsonl", lines if has_schemas else without_schemas(lines))
    table = EventTable("items", topic="shop.public.kinds", key="id", columns=DECLARED)

    result = await events.load(table, encodings=SETTINGS[encoding] if not has_schemas else _binary(encoding))

    assert events.quarantine() == []
    assert result.counts.rows_inserted == 5
    expected = {**_texts(source, "public.kinds"), **LOST[encoding]}
    raw = _texts(events.warehouse, "raw_events.items")
    differing = {place for place, value in raw.items() if _leading(place, value) != _leading(place, expected[place])}
    assert {place: (raw[place], expected[place]) for place in differing} == {}
    others = "words::text, doc::text, raw_doc, place ->> 'x' as x, clock_zoned::text, extract(epoch from span) as span"
    first, second, third = rows(events.warehouse, f"select {others} from raw_events.items where id < 4 order by id")
    assert (first["words"], second["words"]) == ('{"a": "1", "b": null}', "{}")
    assert (first["doc"], second["doc"], third["doc"]) == ('{"a": [1, 2.50]}', "null", None)
    assert (first["raw_doc"], first["x"]) == ('{"b":  1, "b": 2}', "1.5")
    assert (first["clock_zoned"], second["clock_zoned"]) == ("10:00:00.5+00", "12:00:00+00")
    if encoding != "string":
        assert (float(first["span"]), float(second["span"])) == (float(SPANS[1]), float(SPANS[2]))


def _binary(encoding: str) -> Encodings:
    """A schema does not say how a text holds bytes."""
    return Encodings(binary=SETTINGS[encoding].binary)


def _leading(place: tuple[int, str], value: Any) -> Any:
    return value.lstrip("0") if place[1] == "loose_flags" and value else value


async def test_types_come_from_the_schemas_where_none_are_declared(events: Events) -> None:
    events.put("a.jsonl", recorded("default"))

    await events.load(EventTable("items", topic="shop.public.kinds", key="id"))

    found = events.ask(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'raw_events.items'::regclass and attnum > 0 and attname !~ '^_' order by attnum"
    )
    assert dict(found) == {
        "id": "integer", "price": "numeric(10,2)", "loose": "numeric", "ratio": "double precision", "single": "real",
        "small": "smallint", "yes": "boolean", "day": "date", "at_ms": "timestamp without time zone",
        "at_us": "timestamp without time zone", "zoned": "timestamp with time zone",
        "clock": "time without time zone", "clock_ms": "time without time zone", "clock_zoned": "time with time zone",
        "span": "interval", "bytes": "bytea", "words": "jsonb", "doc": "jsonb", "raw_doc": "jsonb", "ident": "uuid",
        "numbers": "integer[]", "texts": "text[]", "prices": "numeric(8,2)[]", "feeling": "text", "place": "jsonb",
        "flags": "bit(3)", "flag": "boolean", "loose_flags": "bit(8)", "net": "text", "cash": "numeric",
        "letters": "text", "whole": "text",
    }  # fmt: skip


async def test_without_schema_and_declaration_a_value_is_kept_as_it_is_in_the_event(events: Events) -> None:
    """A number of days that counts as a number, or bytes that count as a text, would be a type that nobody has said."""
    events.put("a.jsonl", without_schemas(recorded("default")))

    await events.load(EventTable("items", topic="shop.public.kinds", key="id", columns={"id": "integer"}))

    ((price, day_of, loose, numbers),) = events.raw("price::text, day::text, loose::text, numbers::text", "id = 1")
    assert (price, day_of, loose, numbers) == ('"AeI6"', "19782", '{"scale": 1, "value": "AQ=="}', "[1, null, 3]")


@pytest.mark.parametrize("name", ["unchanged", "unchanged_string"])
def test_placeholders_of_every_type_are_known(name: str) -> None:
    """Of a row of which nothing but `n` was changed. Debezium has no placeholder for the types of the last columns."""
    (line,) = recorded(name)
    (bare,) = without_schemas([line])
    after = msgspec.json.decode(
        msgspec.json.decode(bare["payload"], type=dict[str, msgspec.Raw])["after"], type=dict[str, msgspec.Raw]
    )
    known = placeholders("__debezium_unavailable_value")

    compact = {column: bytes(raw).replace(b" ", b"") for column, raw in after.items()}
    not_known = {column: text for column, text in compact.items() if text not in known}
    assert {column for column, text in not_known.items() if text == b"null"} <= {"v", "da", "fa", "na", "de", "sa"}
    assert {column for column, text in not_known.items() if text != b"null"} == {"id", "n"}


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "1970-01-01"),
        (-719163, "0001-12-31 BC"),
        (2932897, "10000-01-01"),
        (19782, "2024-02-29"),
    ],
)
def test_days_are_those_of_postgresqls_calendar(warehouse: TestDatabase, days: int, text: str) -> None:
    assert day(str(days).encode()) == text
    ((found,),) = [tuple(row.values()) for row in rows(warehouse, f"select ('{text}'::date - '1970-01-01')")]
    assert found == days


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("numeric(10,2)", b'"not base64!"'),
        ("date", b'"2024-01-01"'),
        ("time", b"86400000001"),
        ("boolean", b"1"),
        ("integer", b"true"),
        ("bytea", b'"%%%"'),
        ("timestamptz", b"17"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        by_type(raw_type(kind) or "", Encodings()).decode(value)


def test_nanoseconds_that_would_be_lost_are_refused() -> None:
    kind = by_schema({"type": "int64", "name": "io.debezium.time.NanoTimestamp"})

    assert kind.decode(b"1709251199123456000") == "2024-02-29 23:59:59.123456"
    with pytest.raises(UNDECODABLE):
        kind.decode(b"1709251199123456001")


async def test_a_number_that_its_column_would_round_is_quarantined(events: Events) -> None:
    """PostgreSQL rounds without a word."""
    lines = without_schemas(recorded("double"))
    events.put("a.jsonl", lines)
    table = EventTable(
        "items", topic="shop.public.kinds", key="id", columns={"id": "integer", "price": "numeric(10,1)"}
    )

    await events.load(replace(table, max_quarantined=1.0), encodings=SETTINGS["double"])

    assert [(rule, document["price"]) for rule, document, _ in events.quarantine()] == [("value_fits_type", "-0.05")]
