"""The erasure log: subjects are stored as keyed hashes, so that the log forgets them but recognises reappearing ones.

HMAC-SHA-256 (RFC 2104) over `subject:key`. Without the secret key nobody can enumerate a small range of keys.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from flows.declare.subject import Subject
from flows.privacy.places import QUARANTINE, Place
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Event = Literal["began", "deleted", "finished", "incomplete", "returned"]

_BLOCK = 64  # bytes, of SHA-256


def hash_key(secret: bytes, subject: Subject, key: str) -> str:
    """The subject in the log: 64 hex digits."""
    return hmac.new(secret, f"{subject.name}:{key}".encode(), hashlib.sha256).hexdigest()


async def write_event(
    connection: Connection[Record], subject: Subject, key_hash: str, event: Event, rows: Mapping[str, int]
) -> None:
    """One row of ops.erasures; `rows` counts per table. It contains no data of the subject."""
    await connection.execute(
        "insert into ops.erasures (subject, key_hash, event, rows) values ($1, $2, $3, $4::jsonb)",
        subject.name,
        key_hash,
        event,
        json.dumps(dict(rows)),
    )


async def known_hashes(connection: Connection[Record], subject: Subject) -> list[str]:
    """All subjects of this kind whose erasure has begun."""
    rows = await connection.fetch(
        "select distinct key_hash from ops.erasures where subject = $1 order by 1", subject.name
    )
    return [row["key_hash"] for row in rows]


async def erased_keys(
    connection: Connection[Record],
    place: Place,
    subject: Subject,
    secret: bytes,
    hashes: list[str],
    batches: list[int],
) -> set[str]:
    """Keys in the rows of these batches whose hash is in the log: erased subjects that reappeared.

    The hash is computed in the warehouse: only keys that match leave it.
    """
    sources = [f"t.{quote_identifier(subject.key)}::text"] if subject.key in place.columns else []
    sources += [f"t.{quote_identifier(name)} ->> {quote_literal(subject.key)}" for name in place.documents]
    batch_column = "batch_id" if place.told == QUARANTINE else "_batch_id"
    if batch_column not in place.columns or not sources or not hashes:
        return set()
    inner, outer = (bytes(byte ^ mask for byte in _padded(secret)) for mask in (0x36, 0x5C))
    keys: set[str] = set()
    for source in sources:
        rows = await connection.fetch(
            f"""
            with held as (
                select distinct {source} as key from {place.relation} as t where t.{batch_column} = any($1::bigint[])
            )
            select key from held
            where encode(sha256($2::bytea || sha256($3::bytea || convert_to($4::text || key, 'UTF8'))), 'hex')
                = any($5::text[])
            """,
            batches,
            outer,
            inner,
            f"{subject.name}:",
            hashes,
        )
        keys |= {row["key"] for row in rows}
    return keys


async def batches_since_last_build(connection: Connection[Record]) -> dict[str, list[int]]:
    """By source, the batches that reached raw or quarantine since the last full build of the models began; all if there
    was none.
    """
    rows = await connection.fetch(
        "select source_system, array_agg(batch_id order by batch_id) as batches from ops.loads "
        "where status <> 'running' and coalesce(finished_at, started_at) >= coalesce((select max(started_at) "
        "from ops.runs where pipeline in ('transform', 'release') and status = 'done' and details ? 'full_build'), "
        "'-infinity') group by 1 order by 1"
    )
    return {row["source_system"]: list(row["batches"]) for row in rows}


def _padded(secret: bytes) -> bytes:
    key = hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret
    return key.ljust(_BLOCK, b"\0")
