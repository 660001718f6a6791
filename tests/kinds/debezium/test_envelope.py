"""Lines of files → events, in every form in which key, value and headers are written."""

import json
from typing import Any

import pytest

from flows.kinds.debezium.envelope import Event, Line, Reader, Unread, line_of
from tests.kinds.debezium.loading import TOPIC, recorded

VALUE: dict[str, Any] = {"op": "u", "before": None, "after": {"id": 2, "name": "b"}, "source": {"lsn": 7, "txId": 5}}


def _line(**changed: Any) -> Line:
    line = {"topic": TOPIC, "partition": 1, "offset": 9, "key": {"id": 2}, "payload": VALUE}
    return line_of(json.dumps({**line, **changed}).encode())


def _event(**changed: Any) -> Event:
    return Reader().event(_line(**changed))


def _said(event: Event) -> tuple[Any, ...]:
    after = None if event.after is None else {name: json.loads(bytes(raw)) for name, raw in event.after.items()}
    return event.op, {name: json.loads(bytes(raw)) for name, raw in event.key.items()}, after


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"key": '{"id": 2}', "payload": json.dumps(VALUE)},
        {"value": VALUE, "payload": VALUE},
        {"key": {"schema": {"type": "struct", "fields": []}, "payload": {"id": 2}}},
        {"payload": {"schema": None, "payload": VALUE}},
    ],
    ids=["objects", "texts, as of kcat", "value", "key with schema", "schema that is null"],
)
def test_an_event_is_the_same_in_every_form(changed: dict[str, Any]) -> None:
    event = _event(**changed)

    assert _said(event) == ("u", {"id": 2}, {"id": 2, "name": "b"})
    assert (event.partition, event.offset, event.at, event.commit) == (1, 9, (7, 5), 5)


@pytest.mark.parametrize("value", [None, {"schema": None, "payload": None}, "null", ""])
def test_a_tombstone_in_every_form(value: Any) -> None:
    assert _said(_event(payload=value)) == ("tombstone", {"id": 2}, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"__debezium.oldkey": '{"id": 1}'},
        {"__debezium.oldkey": {"id": 1}},
        ["other", "x", "__debezium.oldkey", '{"id": 1}'],
        [{"key": "__debezium.oldkey", "value": '{"schema": {}, "payload": {"id": 1}}'}],
    ],
)
def test_the_former_key_is_read_from_headers_in_every_form(headers: Any) -> None:
    was = _event(headers=headers).was

    assert was is not None
    assert bytes(was["id"]) == b"1"


@pytest.mark.parametrize("headers", [None, {}, [], {"other": "x"}, ["__debezium.newkey", "{}"]])
def test_other_headers_say_nothing(headers: Any) -> None:
    assert _event(headers=headers).was is None


def test_a_table_whose_columns_are_called_schema_and_payload_has_a_key_without_schema() -> None:
    assert _said(_event(key={"schema": 1, "payload": "x"}))[1] == {"schema": 1, "payload": "x"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b'{"topic": "t", "partition": 0}',
        b'{"topic": "t", "partition": 0, "offset": -1}',
    ],
)
def test_a_line_without_a_position_is_no_event(text: bytes) -> None:
    with pytest.raises(Unread) as refused:
        line_of(text)
    assert refused.value.rule == "event_has_position"


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "name": "flattened"},
        {"op": "m", "message": {"prefix": "x", "content": ""}},
        {"op": "c", "after": None},
        {"op": "c", "after": [1]},
        "{",
        7,
    ],
)
def test_a_value_that_is_no_envelope_is_refused_without_its_values_being_told(value: Any) -> None:
    with pytest.raises(Unread) as refused:
        _event(payload=value)
    assert refused.value.rule == "event_is_envelope"
    assert "flattened" not in str(refused.value).replace("it was flattened by a transform", "")


def test_a_checksum_is_of_key_and_value_alone_however_they_are_written() -> None:
    """Consumers write other timestamps and headers; and the same event as a text or an object."""
    one = _line(ts=1, headers={}, payload=json.dumps(VALUE))

    assert one.mark() == _line(ts=2).mark()
    assert one.mark() != _line(payload={**VALUE, "op": "c"}).mark()
    assert one.mark() != _line(key={"id": 3}).mark()


def test_recorded_events_have_the_operations_that_happened() -> None:
    reader = Reader()
    lines = [line_of(json.dumps(line).encode()) for line in recorded("with_schemas") if line["topic"] == TOPIC]
    found = [reader.event(line) for line in lines]

    assert [event.op for event in found] == [
        "r", "r", "c", "u", "d", "tombstone", "c", "d", "tombstone", "c", "u", "c", "u", "t", "c",
    ]  # fmt: skip
    assert found[4].at == found[6].at, "both events of a changed key are one change at the source"
    assert found[9].commit == found[10].commit, "they are of one transaction"
    assert found[0].fields is found[1].fields, "a schema is parsed once"
    assert set(found[5].fields or {}) == {"id"}, "a tombstone has its key's schema"
