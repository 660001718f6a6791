"""What becomes of each change: the last of a key in the order of offsets, as the source has it."""

from dataclasses import replace

import pytest

from flows.kinds.debezium import load as loading
from flows.values.errors import DataRefused
from tests.kinds.debezium.loading import (
    BY_SCHEMA,
    ITEMS,
    LONG,
    TOLERANT,
    TOPIC,
    Events,
    event,
    item,
    recorded,
)

HELD = "__debezium_unavailable_value"


# -- what a real connector wrote: snapshot, insert, update, changed key, delete, transaction, DDL, truncate


@pytest.mark.parametrize("name", ["with_schemas", "without_schemas"])
async def test_the_recorded_story_ends_as_the_source_did(events: Events, name: str) -> None:
    events.put("a.jsonl", recorded(name))

    result = await events.load(BY_SCHEMA if name == "with_schemas" else ITEMS)

    assert events.raw("id, name, amount, colour" if name == "with_schemas" else "id, name, amount, colour ->> 0") == [
        (7, "seven", 70, "green")
    ]
    assert (result.counts.rows_read, result.counts.rows_quarantined) == (1, 0)
    assert events.quarantine() == []


@pytest.mark.parametrize("parts", [1, 2, 3, 100], ids=lambda parts: f"{parts} changes a commit")
async def test_the_story_before_its_truncate_is_the_same_however_it_is_divided(
    events: Events, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Also the placeholder of the changed key: its value is that of a row which an earlier commit has deleted."""
    monkeypatch.setattr(loading, "CHANGES", parts)
    lines = [line for line in recorded("with_schemas") if line["topic"] == TOPIC][:-2]
    events.put("a.jsonl", lines)

    result = await events.load(BY_SCHEMA)

    assert events.raw("id, name, amount, note, colour") == [
        (2, "TWO", 20, LONG, None),
        (4, "four", 41, None, None),
        (6, "six", 61, None, "blue"),
        (30, "three", 30, "x" * 9000, None),
    ]
    deleted = events.raw("id", "_deleted_at is not null")
    assert deleted == ([] if parts == 100 else deleted)
    assert {row[0] for row in deleted} <= {1, 3}
    assert result.counts.reconciliation == "not_compared"
    assert events.quarantine() == []


async def test_each_file_by_itself_gives_the_same(events: Events) -> None:
    """With the headers that Kafka Connect writes, which the embedded engine does not."""
    lines = [line for line in recorded("with_schemas") if line["topic"] == TOPIC]
    lines[6]["headers"] = {"__debezium.oldkey": lines[4]["key"]}
    for number, line in enumerate(lines[:-2]):
        events.put(f"{number:03}.jsonl", [line])
        await events.load(replace(BY_SCHEMA, match="*.jsonl"))

    assert [row[:2] for row in events.raw()] == [(2, "TWO"), (4, "four"), (6, "six"), (30, "three")]
    assert [row[3] for row in events.raw()] == [LONG, None, None, "x" * 9000]
    assert events.raw("id", "_deleted_at is not null") == [(1,), (3,)]

    for number, line in enumerate(lines[-2:], 900):
        events.put(f"{number}.jsonl", [line])
        await events.load(BY_SCHEMA)

    assert [row[:2] for row in events.raw()] == [(7, "seven")]
    assert len(events.raw("id", "_deleted_at is not null")) == 6


async def test_events_of_transactions_and_heartbeats_are_other_topics(events: Events) -> None:
    lines = recorded("without_schemas")
    assert {line["topic"] for line in lines} == {TOPIC, "shop.transaction", "__debezium-heartbeat.shop"}
    events.put("a.jsonl", lines)

    result = await events.load()

    assert (result.counts.rows_read, result.counts.rows_quarantined) == (1, 0)


# -- one change


async def test_a_delete_leaves_a_tombstone_and_its_null_event_nothing(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1)), event(1, "c", item(2))])
    await events.load()
    events.put("b.jsonl", [event(2, "d", before={"id": 1, "name": None}), event(3, "tombstone", {"id": 1})])

    result = await events.load()

    assert result.counts.rows_deleted == 1
    assert (events.raw("id"), events.raw("id, name", "_deleted_at is not null")) == ([(2,)], [(1, "a")])

    events.put("c.jsonl", [event(4, "c", item(1, "again"))])
    await events.load()
    assert events.raw("id, name") == [(1, "again"), (2, "a")]


async def test_a_row_that_was_deleted_and_inserted_again_is_another_one(events: Events) -> None:
    """A column that the new row's event does not have is not that of the deleted one."""
    new = event(2, "c", {"id": 1, "name": "new", "amount": 2})
    events.put("a.jsonl", [event(0, "c", item(1, note="old")), event(1, "d", before=item(1)), new])

    await events.load()

    assert events.raw() == [(1, "new", 2, None)]


async def test_a_tombstone_alone_deletes(events: Events) -> None:
    """Of a compacted topic, nothing else may be left of a delete."""
    events.put("a.jsonl", [event(0, "r", item(1)), event(1, "r", item(2))])
    await events.load()
    events.put("b.jsonl", [event(9, "tombstone", {"id": 1})])

    await events.load()

    assert events.raw("id") == [(2,)]


async def test_a_tombstone_without_a_schema_finds_a_key_whose_type_a_schema_has_told(events: Events) -> None:
    """Its key is a text in JSON, and would have quotes if its type were forgotten."""
    row = {"type": "struct", "fields": [{"type": "string", "field": "id"}], "optional": True, "field": "after"}
    schema = {"type": "struct", "fields": [row, {"type": "string", "field": "op"}]}
    value = {"schema": schema, "payload": {"op": "c", "after": {"id": "a"}}}
    events.put("a.jsonl", [{**event(0, "c"), "key": {"id": "a"}, "payload": value}])
    await events.load(BY_SCHEMA)
    assert events.raw("id") == [("a",)]
    events.put("b.jsonl", [{**event(1, "tombstone"), "key": {"id": "a"}}])

    result = await events.load(BY_SCHEMA)

    assert (events.raw("id"), result.counts.rows_deleted) == ([], 1)


async def test_a_delete_of_a_row_that_raw_never_had_is_none(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1)), event(1, "c", item(2)), event(2, "d", before=item(2))])
    events.put("b.jsonl", [event(3, "d", before=item(9))])

    result = await events.load()

    assert (result.counts.rows_deleted, events.raw("id", "true")) == (0, [(1,)])


async def test_a_changed_key_by_headers_takes_the_values_of_the_old_one(events: Events) -> None:
    """As Kafka Connect writes them, here with kcat's list of names and values; no position at the source is needed."""
    events.put("a.jsonl", [event(0, "c", item(1, note="kept")), event(1, "c", item(5, note="other"))])
    await events.load()
    old = event(2, "d", before={"id": 1}, headers=["__debezium.newkey", '{"id":2}'])
    new = event(4, "c", item(2, "moved", note=HELD), headers=["__debezium.oldkey", '{"id":1}'])
    events.put("b.jsonl", [old, event(3, "tombstone", {"id": 1})])
    await events.load()
    events.put("c.jsonl", [new])

    await events.load()

    assert events.raw() == [(2, "moved", 1, "kept"), (5, "a", 1, "other")]


@pytest.mark.parametrize(("old", "new"), [(1, 0), (0, 1)], ids=["read later", "read before"])
async def test_a_changed_key_that_moves_to_another_partition_takes_no_value_from_there(
    events: Events, old: int, new: int
) -> None:
    """Nobody knows whether it is the value of that moment: there is no order between partitions."""
    events.put("a.jsonl", [event(0, "c", item(1, note="old"), partition=old), event(0, "c", item(9), partition=new)])
    await events.load()
    headers = {"__debezium.oldkey": {"id": 1}}
    lines = [
        event(1, "u", item(1, note="newer"), partition=old),
        event(2, "d", before={"id": 1}, partition=old),
        event(1, "c", item(2, note=HELD), partition=new, headers=headers),
    ]
    events.put("b.jsonl", lines)

    await events.load(TOLERANT)

    assert events.raw("id") == [(9,)]
    assert [(rule, key) for rule, _, key in events.quarantine()] == [("value_is_known", {"id": 2})]


async def test_a_changed_key_takes_no_value_that_raw_was_never_given(events: Events) -> None:
    """The old row's last value came and went in one commit; raw's tombstone has the one before."""
    events.put("a.jsonl", [event(0, "c", item(1, note="old")), event(1, "c", item(9))])
    await events.load()
    events.put(
        "b.jsonl",
        [event(2, "u", item(1, note="newer")), event(3, "d", before={"id": 1}), event(4, "tombstone", {"id": 1})],
    )
    await events.load()
    events.put("c.jsonl", [event(5, "c", item(2, note=HELD), headers={"__debezium.oldkey": {"id": 1}})])

    await events.load(TOLERANT)

    assert events.raw("id") == [(9,)]
    assert [(rule, key) for rule, _, key in events.quarantine()] == [("value_is_known", {"id": 2})]


async def test_a_changed_key_without_headers_that_is_divided_between_loads_is_quarantined(events: Events) -> None:
    """Nothing says any more whose values its placeholders stand for."""
    lines = [line for line in recorded("with_schemas") if line["topic"] == TOPIC]
    events.put("a.jsonl", lines[:6])
    await events.load(BY_SCHEMA)
    events.put("b.jsonl", lines[6:7])

    await events.load(replace(BY_SCHEMA, max_quarantined=1.0))

    assert [(rule, key) for rule, _, key in events.quarantine()] == [("value_is_known", {"id": 30})]


async def test_a_changed_key_of_a_full_row_deletes_the_old_one(events: Events) -> None:
    """If the declared key is not the connector's, the event is one update, with both rows."""
    events.put("a.jsonl", [event(0, "c", item(1, note="kept")), event(1, "u", item(2, note="kept"), before=item(1))])

    await events.load()

    assert events.raw("id, note", "true") == [(2, "kept")]


async def test_an_unchanged_value_is_the_one_that_raw_has(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1, note="kept"))])
    await events.load()
    events.put("b.jsonl", [event(1, "u", item(1, "b", note=HELD)), event(2, "u", item(1, "c", 7, note=HELD))])

    await events.load()

    assert events.raw() == [(1, "c", 7, "kept")]


async def test_an_unchanged_value_is_the_one_of_the_row_before_if_the_event_has_it(events: Events) -> None:
    events.put("a.jsonl", [event(0, "u", item(1, note=HELD), before=item(1, note="full"))])

    await events.load()

    assert events.raw() == [(1, "a", 1, "full")]


async def test_an_unchanged_value_that_nobody_has_is_quarantined_and_not_nulled(events: Events) -> None:
    """Also if raw has an older version than the one in quarantine."""
    events.put("a.jsonl", [event(0, "u", item(1, note=HELD)), event(1, "c", item(2, note="old"))])
    await events.load(TOLERANT)
    assert [(rule, key) for rule, _, key in events.quarantine()] == [("value_is_known", {"id": 1})]
    events.put("b.jsonl", [event(2, "u", {**item(2, note="new"), "amount": "many"})])
    await events.load(TOLERANT)
    events.put("c.jsonl", [event(3, "u", item(2, "changed", note=HELD))])

    await events.load(TOLERANT)

    assert events.raw() == [(2, "a", 1, "old")]
    assert ("value_is_known", {"id": 2}) in [(rule, key) for rule, _, key in events.quarantine()]
    events.put("d.jsonl", [event(4, "u", item(1, note="known")), event(5, "u", item(2, "changed", note="new"))])
    await events.load(TOLERANT)
    assert events.raw() == [(1, "a", 1, "known"), (2, "changed", 1, "new")]
    assert events.quarantine() == []


async def test_another_placeholder_is_declared(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1, note="kept"))])
    await events.load()
    events.put("b.jsonl", [event(1, "u", item(1, "b", note="?gone?"))])

    await events.load(placeholder="?gone?")

    assert events.raw() == [(1, "b", 1, "kept")]


async def test_a_truncate_deletes_all_rows_that_come_before_it(events: Events) -> None:
    truncate = {"topic": TOPIC, "partition": 0, "offset": 3, "key": None, "payload": {"op": "t"}}
    events.put("a.jsonl", [event(0, "c", item(1)), event(1, "c", item(2))])
    await events.load()
    events.put("b.jsonl", [event(2, "c", item(3)), truncate, event(4, "c", item(2, "new"))])

    result = await events.load()

    assert (events.raw("id, name"), events.raw("id", "_deleted_at is not null")) == ([(2, "new")], [(1,)])
    assert result.counts.rows_deleted == 1


async def test_a_truncate_of_a_topic_with_several_partitions_is_refused(events: Events) -> None:
    """It has no key, so it is in any of them; which rows it deletes is not known."""
    truncate = {"topic": TOPIC, "partition": 1, "offset": 1, "key": None, "payload": {"op": "t"}}
    events.put("a.jsonl", [event(0, "c", item(1)), event(0, "c", item(2), partition=1), truncate])

    with pytest.raises(DataRefused, match="truncated, and its topic has 2 partitions") as refused:
        await events.load()

    assert not refused.value.retryable
