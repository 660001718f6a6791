"""Events that cannot be read, or not be stored: kept in full, at no cost to the others."""

from dataclasses import replace

import pytest

from flows.declare import Rule
from flows.values.errors import DataRefused
from tests.kinds.debezium.loading import (
    TOLERANT,
    TOPIC,
    Events,
    Line,
    event,
    item,
    recorded,
    without_schemas,
)


async def test_an_event_that_cannot_be_read_is_kept_in_full_and_costs_the_others_nothing(events: Events) -> None:
    flattened = {"topic": TOPIC, "partition": 0, "offset": 2, "key": {"id": 3}, "payload": {"id": 3, "name": "flat"}}
    lines: list[Line | str] = [
        event(0, "c", item(1)), "no json at all", flattened,
        {"topic": TOPIC, "partition": 0, "offset": 3, "payload": "{"}, event(4, "c", {**item(4), "amount": "four"}),
        event(5, "c", {"name": "no key"}), event(6, "c", item(6, amount=6)), event(7, "c", item(7, "a\u0000b")),
    ]  # fmt: skip
    events.put("a.jsonl", lines)

    result = await events.load(TOLERANT)

    assert events.raw("id") == [(1,), (6,)]
    kept = events.quarantine()
    assert sorted((rule, (key or {}).get("id")) for rule, _, key in kept) == [
        ("event_has_key", None),
        ("event_has_position", None),
        ("event_is_envelope", None),
        ("event_is_envelope", None),
        ("value_fits_type", 4),
        ("value_fits_type", 7),
    ]
    texts = [document.get("text", "") for _, document, _ in kept]
    assert any("no json at all" in text and "a.jsonl, line 2" in text for text in texts)
    assert any('"flat"' in text for text in texts)
    assert result.counts.rows_quarantined == 6

    events.put("b.jsonl", [event(8, "u", item(4, amount=4)), event(9, "u", item(7))])
    await events.load(TOLERANT)
    assert events.raw("id") == [(1,), (4,), (6,), (7,)]
    assert len(events.quarantine()) == 4


async def test_bad_events_beyond_the_declared_share_stop_the_load_before_it_publishes(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1)), event(1, "c", {**item(2), "amount": "two"})])

    with pytest.raises(DataRefused, match="value_fits_type"):
        await events.load()

    assert events.ask("select to_regclass('raw_events.items') is null as gone") == [(True,)]


async def test_a_bad_row_is_released_when_its_row_is_deleted_or_truncated(events: Events) -> None:
    table = replace(TOLERANT, rules=(Rule("amount_known", "amount is not null"),))
    events.put(
        "a.jsonl", [event(0, "c", item(1)), event(1, "c", item(2, amount=None)), event(2, "c", item(3, amount=None))]
    )
    await events.load(table)
    assert len(events.quarantine()) == 2
    events.put("b.jsonl", [event(3, "d", before=item(2))])
    await events.load(table)
    assert [key for _, _, key in events.quarantine()] == [{"id": 3}]
    events.put("c.jsonl", [{"topic": TOPIC, "partition": 0, "offset": 4, "key": None, "payload": {"op": "t"}}])

    await events.load(table)

    assert (events.quarantine(), events.raw("id")) == ([], [])


async def test_compared_with_nothing_and_says_why(events: Events) -> None:
    events.put("a.jsonl", without_schemas(recorded("with_schemas")))
    await events.load()

    compared = await events.compare()

    assert (compared.result, compared.raw_rows, compared.agrees) == ("not_compared", 1, True)
    assert "what changed" in str(compared.note)
