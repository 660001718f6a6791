"""Columns of events: new ones, those that are gone, and keys."""

import pytest

from flows.kinds.debezium import EventTable
from flows.values.errors import SchemaDrift, SourceError
from tests.kinds.debezium.loading import (
    BY_SCHEMA,
    TOPIC,
    Events,
    event,
    item,
    recorded,
)


async def test_a_new_column_is_added(events: Events) -> None:
    lines = [line for line in recorded("with_schemas") if line["topic"] == TOPIC]
    events.put("a.jsonl", lines[:10])
    await events.load(BY_SCHEMA)
    assert len(events.raw("id, note")) == 3
    events.put("b.jsonl", lines[10:13])

    result = await events.load(BY_SCHEMA)

    assert any("colour" in change for change in result.schema_changes)
    assert events.raw("id, colour, note is null", "id = 6") == [(6, "blue", True)]


async def test_a_column_that_is_gone_keeps_its_values(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1, note="kept"))])
    await events.load()
    events.put("b.jsonl", [event(1, "u", {"id": 1, "name": "b", "amount": 2})])

    await events.load()

    assert events.raw() == [(1, "b", 2, "kept")]


async def test_a_column_whose_type_changed_is_refused(events: Events) -> None:
    """Also if the connector stops to send schemas, without which its values are not decoded."""
    events.put("a.jsonl", recorded("with_schemas"))
    await events.load(BY_SCHEMA)
    events.put("b.jsonl", [event(50, "u", item(7))])

    with pytest.raises(SchemaDrift, match="is now jsonb"):
        await events.load(BY_SCHEMA)


async def test_a_column_that_raw_cannot_have_is_refused(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", {**item(1), "_offset": 3})])

    with pytest.raises(SourceError, match="'_offset'") as refused:
        await events.load()

    assert "transform" in refused.value.fix


async def test_a_key_of_which_nothing_tells_the_type_is_refused_until_an_event_does(events: Events) -> None:
    events.put("a.jsonl", [{"topic": "another", "partition": 0, "offset": 0, "key": None, "payload": None}])

    with pytest.raises(SourceError, match=f"no event of topic {TOPIC}"):
        await events.load(BY_SCHEMA)

    events.put("b.jsonl", recorded("with_schemas"))
    await events.load(BY_SCHEMA)
    assert events.raw("id") == [(7,)]


async def test_keys_of_several_columns_and_of_text(events: Events) -> None:
    table = EventTable(
        "items", topic=TOPIC, key=("shop", "line"), columns={"shop": "text", "line": "integer", "name": "text"}
    )
    rows = [{"shop": "a,b", "line": 1, "name": "x"}, {"shop": 'q"', "line": 1, "name": "y"}]
    events.put(
        "a.jsonl", [{**event(n, "c", row), "key": {"shop": row["shop"], "line": 1}} for n, row in enumerate(rows)]
    )
    events.put("b.jsonl", [{**event(2, "tombstone"), "key": {"shop": 'q"', "line": 1}}])

    await events.load(table)

    assert events.raw("shop, line, name") == [("a,b", 1, "x")]
