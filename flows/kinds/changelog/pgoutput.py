"""PostgreSQL's logical replication messages → COPY rows of changes, without a Python object per row or value.

Messages arrive as the rows of a binary COPY with one column (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html,
version 1 of the protocol: whole transactions, in the order of their commits). A text of a tuple is a length and bytes,
as in a binary COPY of text, so columns are copied as they are: all rows of a block, relation and action at once.

A change in the result:

    _log_seq bigint      order of arrival; an old tuple comes directly before its new one
    _log_lsn bigint      the position of its commit record
    _log_op text         I inserted · U updated · V updated, with an old tuple before it · D deleted · T truncated
                         k, o: the old tuple of an update, with its key or in full
    _log_kept bytea      one bit per column, by its place: set if the value is stored out of line and unchanged, so that
                         the log does not have it; null if there is none
    and the columns as text
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.kinds.changelog.messages import Block, Messages, Places, Relation, Seen, big_endian, constant, number
from flows.landing.copy import HEADER
from flows.values.errors import SourceError

#: The columns of every change, before those of its table.
META = (("_log_seq", "bigint"), ("_log_lsn", "bigint"), ("_log_op", "text"), ("_log_kept", "bytea"))

# Blocks that fit into the processor's cache: decoding 700,000 changes took 1.4 CPU seconds, with 16 MB 3.6.
_BLOCK = 1_000_000
_ROW = struct.Struct("!hi")
_NULL = b"\xff\xff\xff\xff"
_PAD = 16  # a length is read behind the last value of a block, and not used


class Decoder:
    """Decodes a stream of messages. `wanted`: the tables by oid, and the position from which each needs changes.

    `end` is the end of the last commit, `commits` their number, `committed_at` the source's time of the last one in
    microseconds since 2000. `settled`: all changes that were returned belong to transactions that have ended.
    """

    def __init__(self, wanted: Mapping[int, int]) -> None:
        self.wanted = wanted
        self.seen: dict[int, Seen] = {oid: Seen() for oid in wanted}
        self.end = 0
        self.commits = 0
        self.committed_at = 0
        self.settled = True
        self._relations: dict[int, Relation] = {}
        self._pending = bytearray()
        self._begun = False
        self._ended = False
        self._lsn = 0
        self._messages = 0

    def feed(self, chunk: bytes) -> list[Block]:
        """Decode what is complete, once it is a block."""
        self._pending += chunk
        return self._decode() if len(self._pending) >= _BLOCK else []

    def finish(self) -> list[Block]:
        """Decode the rest.

        Raises:
            SourceError: the stream ended in the middle.
        """
        blocks = self._decode()
        if self._pending or not self._ended:
            raise _invalid("the stream ended in the middle of a message")
        return blocks

    def _decode(self) -> list[Block]:
        data = bytes(self._pending)
        starts, consumed = self._up_to_a_commit(data, *self._frames(data))
        self._pending = bytearray(data[consumed:])
        if not starts:
            return []
        buffer = np.frombuffer(data + bytes(_PAD) + _NULL, np.uint8)
        at = np.array(starts, np.int64)
        kinds = buffer[at]
        self.settled = bool(kinds[-1] == ord("C"))
        begins = kinds == ord("B")
        positions = np.concatenate(([self._lsn], number(buffer, at[begins] + 1, 8)))
        lsns = positions[np.cumsum(begins)]
        self._lsn = int(positions[-1])
        if (commits := at[kinds == ord("C")]).size:
            self.commits += commits.size
            self.end = int(number(buffer, commits[-1:] + 10, 8)[0])
            self.committed_at = int(number(buffer, commits[-1:] + 18, 8)[0])
        sequence = (np.arange(at.size, dtype=np.int64) + self._messages) * 2
        self._messages += at.size
        blocks, before = [], 0
        for described in [*np.flatnonzero(kinds == ord("R")), at.size]:
            part = slice(before, described)
            blocks += self._changes(Messages(buffer, at[part], kinds[part], lsns[part], sequence[part]))
            if described < at.size:
                self._describe(data, int(at[described]))
            before = int(described) + 1
        return blocks

    def _frames(self, data: bytes) -> tuple[list[int], int]:
        """Where each complete message begins, and how many bytes they take."""
        place, end, starts = 0, len(data), list[int]()
        if not self._begun:
            if end < len(HEADER):
                return [], 0
            if not data.startswith(HEADER[:11]):
                raise _invalid("the stream does not begin as a binary COPY")
            place, self._begun = len(HEADER), True
        while place + 2 <= end:
            if data[place] == 0xFF:
                self._ended, place = True, place + 2
                break
            if place + 6 > end:
                break
            fields, length = _ROW.unpack_from(data, place)
            if fields != 1 or length < 1:
                raise _invalid("a row of the stream is no message")
            if place + 6 + length > end:
                break
            starts.append(place + 6)
            place += 6 + length
        return starts, place

    def _up_to_a_commit(self, data: bytes, starts: list[int], consumed: int) -> tuple[list[int], int]:
        """Without what follows the last commit, which the next block begins with; all, if there is no commit."""
        if self._ended or not starts or data[starts[-1]] == ord("C"):
            return starts, consumed
        for last in range(len(starts) - 2, -1, -1):
            if data[starts[last]] == ord("C"):
                return starts[: last + 1], starts[last + 1] - _ROW.size
        return starts, consumed

    def _describe(self, data: bytes, at: int) -> None:
        (oid,) = struct.unpack_from("!I", data, at + 1)
        seen = self.seen.get(oid)
        if seen is None:
            return
        _, at = _text(data, at + 5)
        _, at = _text(data, at)
        (width,) = struct.unpack_from("!h", data, at + 1)
        at += 3
        names = []
        for _ in range(width):
            name, at = _text(data, at + 1)
            names.append(name)
            at += 8
        self._relations[oid] = Relation(oid, tuple(names), seen.place(tuple(names)))

    def _changes(self, messages: Messages) -> list[Block]:
        blocks = []
        for truncated in np.flatnonzero(messages.kinds == ord("T")):
            blocks += self._truncated(messages, int(truncated))
        of_rows = messages.where(np.isin(messages.kinds, (ord("I"), ord("U"), ord("D"))))
        if not of_rows.at.size:
            return blocks
        oids = number(of_rows.buffer, of_rows.at + 1, 4)
        for oid in np.unique(oids):
            if (position := self.wanted.get(int(oid))) is None:
                continue
            if (relation := self._relations.get(int(oid))) is None:
                raise _invalid("a change came before the description of its table")
            of_table = of_rows.where((oids == oid) & (of_rows.lsns >= position))
            if of_table.at.size:
                blocks += self._of_table(relation, of_table)
        return blocks

    def _truncated(self, messages: Messages, index: int) -> list[Block]:
        at = int(messages.at[index])
        tables = int(number(messages.buffer, np.array([at + 1]), 4)[0])
        oids = number(messages.buffer, at + 6 + 4 * np.arange(tables), 4)
        blocks = []
        for oid in map(int, oids):
            if oid not in self.wanted or messages.lsns[index] < self.wanted[oid]:
                continue
            one = messages.where(np.arange(messages.at.size) == index)
            nothing = np.empty((1, 0), np.int64)
            blocks.append(self._block(Relation(oid, (), nothing[0]), one, "T", nothing, nothing))
        return blocks

    def _of_table(self, relation: Relation, messages: Messages) -> list[Block]:
        buffer, blocks = messages.buffer, list[Block]()
        first = buffer[messages.at + 5]
        for kind, op in (("I", "I"), ("U", "U"), ("D", "D")):
            of_kind = messages.where(messages.kinds == ord(kind))
            letters = first[messages.kinds == ord(kind)]
            for letter in map(chr, np.unique(letters)):
                some = of_kind.where(letters == ord(letter))
                at = some.at + 6
                if op == "U" and letter != "N":
                    at = self._tuples(blocks, relation, some, at, "k" if letter == "K" else "o") + 1
                    some = some.after()
                self._tuples(blocks, relation, some, at, "V" if op == "U" and letter != "N" else op)
        return blocks

    def _tuples(self, blocks: list[Block], relation: Relation, messages: Messages, at: Places, op: str) -> Places:
        """Add the tuples at these places; returns where each ends."""
        buffer, width, rows = messages.buffer, len(relation.names), messages.at.size
        if (number(buffer, at, 2) != width).any():
            raise _invalid("a row has another number of columns than its table")
        starts, sizes = np.empty((rows, width), np.int64), np.empty((rows, width), np.int64)
        kept = np.zeros((rows, width), bool)
        at = at + 2
        for column in range(width):
            kind = buffer[at]
            has_value = kind == ord("t")
            if (~has_value & (kind != ord("n")) & (kind != ord("u"))).any():
                raise _invalid("a value has an unknown format")
            length = np.where(has_value, number(buffer, at + 1, 4) + 4, 0)
            starts[:, column] = np.where(has_value, at + 1, buffer.size - 4)
            sizes[:, column] = np.where(has_value, length, 4)
            kept[:, column] = kind == ord("u")
            at = at + 1 + length
        blocks.append(self._block(relation, messages, op, starts, sizes, kept))
        return at

    def _block(
        self,
        relation: Relation,
        messages: Messages,
        op: str,
        starts: Places,
        sizes: Places,
        kept: npt.NDArray[Any] | None = None,
    ) -> Block:
        rows, seen = messages.at.size, self.seen[relation.oid]
        parts = [
            constant(rows, struct.pack("!hi", len(META) + len(relation.names), 8)),
            big_endian(messages.sequence),
            constant(rows, struct.pack("!i", 8)),
            big_endian(messages.lsns),
            constant(rows, struct.pack("!i", 1) + op.encode()),
        ]
        if kept is not None and kept.any():
            seen.kept = True
            bits = np.zeros((rows, len(seen.columns)), bool)
            bits[:, relation.places] = kept
            packed = np.packbits(bits, axis=1, bitorder="little")
            parts += [constant(rows, struct.pack("!i", packed.shape[1])), packed]
        else:
            parts.append(constant(rows, _NULL))
        heads = np.concatenate(parts, axis=1)
        source = np.concatenate((messages.buffer, heads.ravel()))
        width = heads.shape[1]
        froms = np.column_stack((messages.buffer.size + width * np.arange(rows), starts)).ravel()
        lengths = np.column_stack((np.full(rows, width), sizes)).ravel()
        begins = np.cumsum(lengths) - lengths
        data = source[np.arange(int(lengths.sum())) + np.repeat(froms - begins, lengths)].tobytes()
        seen.counts[op] += rows
        seen.bytes += len(data)
        return Block(relation.oid, relation.names, rows, data)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


def _invalid(what: str) -> SourceError:
    return SourceError(
        f"the source's log cannot be decoded: {what}",
        where="capture",
        fix="run again; if it repeats, check for a proxy between the source and this machine",
        retryable=True,
    )
