"""A copy of the erasure log beside the warehouse: a restore to an earlier moment brings back people and not the log.

It contains what `ops.erasures` contains: hashes, counts and moments, nothing of the subjects.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from flows.values.errors import DataRefused
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: In the home.
FILE = "erasures.jsonl"
_COLUMNS = ("subject", "key_hash", "event", "rows", "by_role", "occurred_at")


def kept_log() -> Path:
    """Where the copy is."""
    return settings().home / FILE


async def keep_log(connection: Connection[Record], path: Path | None = None) -> bool:
    """Add to the copy what it lacks. A row of an earlier warehouse stays. False if the home cannot be written."""
    path = path or kept_log()
    known = set(_lines(path))
    rows = await connection.fetch(
        "select jsonb_build_object('subject', subject, 'key_hash', key_hash, 'event', event, 'rows', rows, 'by_role', "
        "by_role, 'occurred_at', occurred_at)::text as line from ops.erasures order by event_id"
    )
    if new := [row["line"] for row in rows if row["line"] not in known]:
        try:
            _write(path, [*_lines(path), *new])
        except OSError:
            return False
    return True


async def read_back(connection: Connection[Record], path: Path | None = None) -> int:
    """Add rows of the copy to `ops.erasures` that it lacks. Returns how many.

    Raises:
        DataRefused: the file is not a copy of the log.
    """
    path = path or kept_log()
    lines = _lines(path)
    try:
        if not all(set(json.loads(line)) == set(_COLUMNS) for line in lines):
            raise ValueError
    except ValueError:
        raise DataRefused(
            "the copy of the erasure log cannot be read", where=str(path), fix="restore it from a copy of the home"
        ) from None
    names = ", ".join(_COLUMNS)
    status = await connection.execute(
        f"insert into ops.erasures ({names}) "
        f"select {', '.join(f'r.{name}' for name in _COLUMNS)} from unnest($1::text[]) with ordinality as l (line, n) "
        "cross join lateral jsonb_populate_record(null::ops.erasures, l.line::jsonb) as r "
        "where not exists (select from ops.erasures as e where (e.subject, e.key_hash, e.event, e.occurred_at) "
        "= (r.subject, r.key_hash, r.event, r.occurred_at)) order by l.n",
        lines,
    )
    return int(status.rsplit(" ", 1)[-1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _write(path: Path, lines: list[str]) -> None:
    """Whole or not at all, for its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
