"""Names of segments, and which timeline's file recovery takes."""

import pytest

from infra.backup.lsn import Branch, branches, format_lsn, parse_lsn, parse_segment, runs, segment_name, timeline_of

SIZE = 16 << 20


@pytest.mark.parametrize(("text", "position"), [("0/0", 0), ("0/3000028", 0x3000028), ("A/FF000000", 0xAFF000000)])
def test_positions_are_written_as_postgresql_does(text: str, position: int) -> None:
    assert (parse_lsn(text), format_lsn(position)) == (position, text)


@pytest.mark.parametrize(
    ("timeline", "number", "name"),
    [(1, 3, "000000010000000000000003"), (2, 256, "000000020000000100000000"), (17, 511, "0000001100000001000000FF")],
)
def test_segments_are_named_as_postgresql_does(timeline: int, number: int, name: str) -> None:
    assert segment_name(timeline, number, SIZE) == name
    assert parse_segment(name, SIZE) == (timeline, number)


@pytest.mark.parametrize("name", ["00000002.history", "lock", "000000010000000000000003.partial", "0" * 23])
def test_what_is_no_segment_is_told_apart(name: str) -> None:
    assert parse_segment(name, SIZE) is None


def test_a_history_leads_through_the_ancestors() -> None:
    history = "1\t0/5000028\tno recovery target specified\n\n2\t0/9000000\tbefore 2026-11-26 10:00:00+00\n"
    chain = branches(3, {3: history})

    assert chain == [Branch(3, 0x9000000), Branch(2, 0x5000028), Branch(1, 0)]
    assert [timeline_of(number, chain, SIZE) for number in (4, 5, 8, 9, 10)] == [1, 2, 2, 3, 3]


def test_numbers_are_told_as_runs() -> None:
    assert runs([7, 1, 2, 3, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
