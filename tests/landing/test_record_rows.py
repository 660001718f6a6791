"""Keys and cursors read out of records before they land: what is plain, and that both ways land the same."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.landing.record_rows import NotPlain, PayloadRows, Place

PLACES = [
    Place("id", "bigint", ("id",)),
    Place("at", "timestamp with time zone", ("meta", "at")),
]
GOOD = b'{"id": 7, "meta": {"at": "2026-01-31T10:00:00.5+02:00"}, "x": [1]}'


@pytest.mark.parametrize(
    "record",
    [
        b'{"id": "7", "meta": {"at": "2026-01-31T10:00:00Z"}}',
        b'{"id": 7.0, "meta": {"at": "2026-01-31T10:00:00Z"}}',
        b'{"id": 9223372036854775808, "meta": {"at": "2026-01-31T10:00:00Z"}}',
        b'{"id": null, "meta": {"at": "2026-01-31T10:00:00Z"}}',
        b'{"meta": {"at": "2026-01-31T10:00:00Z"}}',
        b'{"id": 7, "meta": {"at": "2026-01-31T10:00:00"}}',
        b'{"id": 7, "meta": {"at": "yesterday"}}',
        b'{"id": 7, "meta": null}',
        b'{"id": 7}',
        b"[7]",
        b"null",
    ],
)
def test_what_is_not_plainly_of_its_type_is_left_to_postgresql(record: bytes) -> None:
    rows = PayloadRows(PLACES)
    assert rows.rows([GOOD], None)
    with pytest.raises(NotPlain):
        rows.rows([GOOD, record], None)


def test_a_place_in_a_list_is_out_of_reach() -> None:
    assert not PayloadRows([Place("day", "text", ("values", "0", "value"))]).possible
    assert not PayloadRows([Place("n", "numeric", ("n",))]).possible
    assert not PayloadRows([Place("a", "text", ("a",)), Place("b", "text", ("a", "b"))]).possible


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(2**63), 2**63 - 1),
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)),
)
def test_numbers_and_moments_are_written_as_postgresql_reads_them(number: int, moment: datetime) -> None:
    record = f'{{"id": {number}, "meta": {{"at": "{moment.isoformat()}"}}}}'.encode()
    written = PayloadRows(PLACES).rows([record], None)
    since = moment - datetime(2000, 1, 1, tzinfo=UTC)
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    expected = (
        (3).to_bytes(2, "big")
        + (8).to_bytes(4, "big") + number.to_bytes(8, "big", signed=True)
        + (8).to_bytes(4, "big") + micros.to_bytes(8, "big", signed=True)
        + (len(record) + 1).to_bytes(4, "big") + b"\x01" + record
    )  # fmt: skip
    assert written == expected


def test_a_field_may_have_any_name() -> None:
    rows = PayloadRows([Place("from", "text", ("from",)), Place("order_id", "bigint", ())])
    assert rows.rows([b'{"from": "x"}'], "12").startswith(b"\x00\x03\x00\x00\x00\x01x\x00\x00\x00\x08")
