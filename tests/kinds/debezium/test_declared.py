"""A declaration that contradicts itself is refused when it is imported, with the fix."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.access.addresses import SourceAddress
from flows.kinds.debezium import Debezium, Encodings, EventTable, Settled
from flows.kinds.debezium.draft import draft_events
from flows.kinds.debezium.kind import DebeziumEvents
from flows.kinds.debezium.look import look
from flows.kinds.debezium.types import raw_type
from flows.kinds.files.places import place_of
from flows.values.errors import DeclarationError, SourceError
from tests.conftest import TestDatabase
from tests.kinds.debezium.loading import BY_SCHEMA, ITEMS, Events, recorded
from tests.kinds.loading import rows

TABLE: dict[str, Any] = {"name": "items", "topic": "t", "key": "id"}
SOURCE: dict[str, Any] = {"name": "events", "connection": "events", "tables": [ITEMS]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key": ()}, "events need a key"),
        ({"key": ("id", "id")}, "id"),
        ({"topic": ""}, "no topic"),
        ({"columns": {"id": "money"}}, "the type 'money' of column id is unknown"),
        ({"columns": {"_offset": "bigint"}}, "cannot have a column '_offset'"),
        ({"key": "_batch_id"}, "cannot have a column '_batch_id'"),
        ({"match": "{day}.jsonl"}, "parts of the path"),
        ({"max_deleted": 2}, "max_deleted must be between 0 and 1"),
        ({"name": "no name"}, "no name"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said) as refused:
        EventTable(**TABLE | changed)
    assert refused.value.fix


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tables": []}, "no tables"),
        ({"tables": [ITEMS, ITEMS]}, "items"),
        ({"ready": "now"}, "does not say when a file is complete"),
        ({"max_expansion": 0}, "max_expansion is below 1"),
        ({"placeholder": ""}, "placeholder is empty"),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said) as refused:
        Debezium(**SOURCE | changed)
    assert refused.value.fix


def test_an_encoding_that_debezium_does_not_have_is_refused() -> None:
    unknown: Any = "decimal"
    with pytest.raises(DeclarationError, match="decimal='decimal'"):
        Encodings(decimal=unknown)


def test_a_table_that_is_not_declared_is_named() -> None:
    with pytest.raises(DeclarationError, match="orders"):
        Debezium(**SOURCE).table("orders")


KNOWN = [
    "text", "int", "bigint", "smallint", "numeric", "numeric(10, 2)", "numeric(5)", "float4", "double", "bool", "date",
    "time", "time(3)", "timetz", "timestamp", "timestamp(3)", "timestamp(6) without time zone", "timestamptz",
    "timestamptz(3)", "interval", "uuid", "jsonb", "bytea", "bit(8)", "varbit", "varbit(9)", "text[]", "numeric(8,2)[]",
    "timestamp(3)[]",
]  # fmt: skip


def test_types_have_the_names_that_postgresql_gives_them(warehouse: TestDatabase) -> None:
    kinds = [raw_type(declared) for declared in KNOWN]
    named = ", ".join(f"('{kind}')" for kind in kinds)

    found = rows(
        warehouse, f"select format_type(to_regtype(k), to_regtypemod(k)) as kind from (values {named}) as v (k)"
    )

    assert [row["kind"] for row in found] == kinds


@pytest.mark.parametrize("declared", ["", "money", "numeric(2,3)", "numeric(1001)", "bit(0)", "time(9)", "text[][]"])
def test_other_types_are_unknown(declared: str) -> None:
    assert raw_type(declared) is None


async def test_a_plan_says_which_values_debezium_does_not_protect(events: Events) -> None:
    """An unchanged array of fractions is null in its event, as if it had become null."""
    events.put("a.jsonl", recorded("default"))
    await events.load(EventTable("items", topic="shop.public.kinds", key="id"))
    cautions = (await events.planned(EventTable("items", topic="shop.public.kinds", key="id"))).plan.cautions

    assert len(cautions) == 1
    assert "value of prices as it is" in cautions[0], "bit strings of a few bits are never stored apart"
    undeclared = EventTable("others", topic="t", key="id", columns={"id": "bigint", "bits": "varbit"})
    assert "value of bits as it is" in (await events.planned(undeclared)).plan.cautions[0]
    assert (await events.planned(EventTable("others", topic="t", key="id"))).plan.cautions == ()


def test_a_preview_shows_the_newest_changes_decoded(events: Events) -> None:
    events.put("a.jsonl", recorded("with_schemas"))
    place = place_of(SourceAddress(str(events.root)), "events.items")

    preview = look(place, events.source(BY_SCHEMA), BY_SCHEMA, 2)

    assert list(preview.records) == [
        b'{"op": "t", "partition": 0, "offset": 13}',
        b'{"op": "c", "partition": 0, "offset": 14, "row": {"id": "7", "name": "seven", "amount": "70", '
        b'"colour": "green"}, "unchanged": []}',
    ]
    assert preview.fields == {"id": "bigint", "name": "text", "amount": "integer", "colour": "text"}
    with pytest.raises(SourceError, match=r"it has shop\.public\.items"):
        look(place, events.source(ITEMS), EventTable(**TABLE), 2)


def test_a_draft_names_topics_and_keys_and_is_a_declaration(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in recorded("with_schemas")), encoding="utf-8")

    drafted: dict[str, Any] = {}
    exec(draft_events("shop_events", str(path)), drafted)  # noqa: S102  # nosec B102 - what we have drafted

    source = drafted["shop_events"]
    assert [(table.name, table.topic, table.key, table.match) for table in source.tables] == [
        ("items", "shop.public.items", "id", "*.jsonl")
    ]


def test_a_draft_of_events_without_schemas_has_the_columns_to_declare_and_no_types(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    lines = [*recorded("without_schemas"), {"topic": "t", "partition": 0, "offset": 0, "payload": {"op": "m"}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    text = draft_events("shop_events", str(path))

    assert '                # "amount": "…",' in text
    assert text.count("EventTable(") == 1, "transactions and heartbeats are no tables"
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="no change events"):
        draft_events("shop_events", str(path))
    with pytest.raises(DeclarationError, match="is no file"):
        draft_events("shop_events", str(tmp_path / "none"))


def test_the_page_of_all_tables_names_topic_and_offsets() -> None:
    kind, source = DebeziumEvents(), Debezium(**SOURCE, ready=Settled("0 s"))

    words = kind.words(ITEMS)

    assert (words.name, words.cursor, words.deletes) == ("shop.public.items", "offsets", "marked as deleted")
    assert kind.describe(source) == "change events of Debezium"
    assert (kind.made_of(ITEMS, "name"), kind.made_of(ITEMS, "_offset")) == ("name", None)
