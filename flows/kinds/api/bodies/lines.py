"""NDJSON: an object per line."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from flows.kinds.api.bodies.unpack import cut
from flows.kinds.api.http.failure import AttemptFailed

# Of one record: nothing that is longer is one.
MOST_BYTES = 16 << 20
_LINES = msgspec.json.Decoder(list[Raw])


class LineRecords:
    """Splits lines, and keeps the bytes of each."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The records that are complete now.

        Raises:
            AttemptFailed: a line is longer than any record.
        """
        head, end, rest = piece.rpartition(b"\n")
        if not end:
            self._keep(rest)
            return []
        lines = b"".join((*self._rest, head)).split(b"\n")
        self._rest, self._size = [], 0
        self._keep(rest)
        return _records([line for line in map(bytes.strip, lines) if line])

    def end(self) -> list[bytes]:
        """The last record, if its line has no end: JSON shows its own.

        Raises:
            AttemptFailed: it is cut.
        """
        last = b"".join(self._rest).strip()
        if last and not (_is_object(last)):
            raise cut("the last line is cut")
        return [last] if last else []

    def _keep(self, rest: bytes) -> None:
        self._rest.append(rest)
        self._size += len(rest)
        if self._size > MOST_BYTES:
            raise AttemptFailed(
                f"a line is longer than {MOST_BYTES >> 20} MB",
                "compare the document with the declared format: NdJson() is one JSON object per line",
            )


def _records(lines: list[bytes]) -> list[bytes]:
    """The lines as records; one that is not JSON becomes a text, which the row checks put into quarantine."""
    try:
        found: Sequence[Raw] = _LINES.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = ()
    if len(found) == len(lines):
        return lines
    return [line if _is_json(line) else broken(line) for line in lines]


def broken(record: bytes) -> bytes:
    """A record that is none: its text, as JSON. It has no key, so the row checks put it into quarantine."""
    return json.dumps(record.decode("utf-8", errors="backslashreplace").replace("\0", "\\0")).encode()


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and _is_json(line)


def _is_json(line: bytes) -> bool:
    # msgspec refuses lone surrogates and the like, which are a matter of the row checks.
    try:
        json.loads(line.decode("utf-8", errors="replace"), parse_int=str, parse_float=str, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False
    return True


def _refused(name: str) -> None:
    raise ValueError  # NaN and the like are not JSON
