"""The decoder, on messages that are made here: what a server sends in any size of chunk, and what none should send."""

import struct

import numpy as np
import pytest

from flows.kinds.changelog import pgoutput
from flows.kinds.changelog.messages import Block
from flows.kinds.changelog.pgoutput import Decoder
from flows.landing.copy import HEADER, TRAILER
from flows.values.errors import SourceError

OID = 16_500


def begin(position: int) -> bytes:
    return b"B" + struct.pack("!QqI", position, 0, 7)


def commit(position: int) -> bytes:
    return b"C" + struct.pack("!BQQq", 0, position, position + 8, 1_000_000)


def relation(*names: str, oid: int = OID) -> bytes:
    columns = b"".join(b"\x00" + name.encode() + b"\0" + struct.pack("!Ii", 25, -1) for name in names)
    return b"R" + struct.pack("!I", oid) + b"public\0items\0d" + struct.pack("!h", len(names)) + columns


def row(*values: str | None) -> bytes:
    parts = []
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value == "unchanged":
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!i", len(value.encode())) + value.encode())
    return struct.pack("!h", len(values)) + b"".join(parts)


def insert(*values: str | None, oid: int = OID) -> bytes:
    return b"I" + struct.pack("!I", oid) + b"N" + row(*values)


def stream(*messages: bytes) -> bytes:
    return HEADER + b"".join(struct.pack("!hi", 1, len(message)) + message for message in messages) + TRAILER


def rows_of(blocks: list[Block]) -> list[tuple[bytes | None, ...]]:
    """The rows of COPY, in the order of their sequence."""
    found = []
    for block in blocks:
        at = 0
        for _ in range(block.rows):
            (fields,) = struct.unpack_from("!h", block.data, at)
            at, values = at + 2, list[bytes | None]()
            for _ in range(fields):
                (length,) = struct.unpack_from("!i", block.data, at)
                values.append(block.data[at + 4 : at + 4 + length] if length >= 0 else None)
                at += 4 + max(0, length)
            found.append(tuple(values))
        assert at == len(block.data)
    return sorted(found, key=lambda values: values[0] or b"")


def decoded(data: bytes, size: int, wanted: int = 0) -> tuple[list[tuple[bytes | None, ...]], Decoder]:
    decoder, blocks = Decoder({OID: wanted}), list[Block]()
    for start in range(0, len(data), size):
        blocks += decoder.feed(data[start : start + size])
    return rows_of(blocks + decoder.finish()), decoder


MESSAGES = (
    begin(100),
    relation("id", "note"),
    insert("1", "é" * 5),
    insert("2", None),
    b"U" + struct.pack("!I", OID) + b"K" + row("2", None) + b"N" + row("3", "unchanged"),
    commit(100),
    begin(200),
    b"D" + struct.pack("!I", OID) + b"K" + row("1", None),
    insert("9", "of another table", oid=1),
    b"T" + struct.pack("!IBI", 1, 0, OID),
    commit(200),
)


@pytest.mark.parametrize("block", [1, 40, 1_000_000])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_decoded_whatever_its_chunks_are(size: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgoutput, "_BLOCK", block)

    found, decoder = decoded(stream(*MESSAGES), size)

    assert [(values[2], *values[4:]) for values in found] == [
        (b"I", b"1", "ééééé".encode()),
        (b"I", b"2", None),
        (b"k", b"2", None),
        (b"V", b"3", None),
        (b"D", b"1", None),
        (b"T",),
    ]
    assert [values[3] for values in found] == [None, None, None, b"\x02", None, None]
    assert [int.from_bytes(values[1] or b"", "big") for values in found] == [100, 100, 100, 100, 200, 200]
    assert (decoder.end, decoder.commits) == (208, 2)


def test_what_a_table_has_already_is_left_out() -> None:
    found, decoder = decoded(stream(*MESSAGES), 50, wanted=101)
    assert [values[2] for values in found] == [b"D", b"T"]
    assert decoder.end == 208


def test_a_column_that_comes_and_goes_keeps_its_place() -> None:
    messages = (
        begin(1),
        relation("id", "a"),
        insert("1", "x"),
        relation("id", "b", "a"),
        insert("2", "y", "z"),
        commit(1),
    )
    _, decoder = decoded(stream(*messages), 9)
    assert decoder.seen[OID].columns == ["id", "a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        stream(*MESSAGES)[:-2],
        stream(*MESSAGES)[:-40],
        b"no binary copy at all, whatever it is",
        stream(begin(1), insert("1", "before its relation")),
        stream(begin(1), relation("id"), insert("1", "too many")),
        stream(begin(1), relation("id"), b"I" + struct.pack("!I", OID) + b"N\x00\x01x\x00\x00\x00\x01a"),
    ],
)
def test_a_stream_that_is_cut_or_makes_no_sense_is_an_error(data: bytes) -> None:
    with pytest.raises(SourceError, match="cannot be decoded"):
        decoded(data, 64)


def test_a_million_values_are_no_million_objects() -> None:
    """Decoded in less than a second of a core; a loop over values takes several."""
    values = insert("12345", "a text of some length")
    data = stream(begin(1), relation("id", "note"), *([values] * 50_000), commit(1))
    decoder = Decoder({OID: 0})

    blocks = decoder.feed(data) + decoder.finish()

    assert sum(block.rows for block in blocks) == 50_000
    assert np.frombuffer(blocks[0].data, np.uint8).size == len(blocks[0].data)
