"""The erasure log: subjects are stored as keyed hashes, so that the log forgets them but recognises reappearing ones.

HMAC-SHA-256 (RFC 2104) over `subject:key`. Without the secret key nobody can enumerate a small range of keys. Keys that
belong to a subject, such as those of its baskets, are in the log as `subject.basket_id`: their rows may come back
without the row that tells whose they are.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from flows.access.erasure_key import erasure_key
from flows.declare.subject import Subject
from flows.privacy.places import QUARANTINE, Place
from flows.privacy.references import FIXES, Form, references
from flows.values.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Event = Literal["began", "deleted", "finished", "incomplete", "returned"]

_BLOCK = 64  # bytes, of SHA-256
# Not a subject: their names have no space.
_FINGERPRINT = "erasure key"


def hash_key(secret: bytes, subject: Subject, key: str) -> str:
    """The subject in the log: 64 hex digits."""
    return _hash(secret, subject.name, key)


def _hash(secret: bytes, kind: str, key: str) -> str:
    return hmac.new(secret, f"{kind}:{key}".encode(), hashlib.sha256).hexdigest()


async def secret_of(connection: Connection[Record]) -> bytes:
    """The key for hashing, if it is the one of earlier erasures.

    Raises:
        ConfigurationError: it is not configured, lost, or another one: who was erased would not be recognised any more.
    """
    known = await known_fingerprints(connection)
    erased = bool(known) or await connection.fetchval("select exists (select from ops.erasures)")
    secret = erasure_key(may_generate=not erased)
    if known and _hash(secret, _FINGERPRINT, "") not in known:
        raise ConfigurationError(
            "the key for hashing erased subjects is not the one that subjects were erased with: they would not be "
            "recognised when they reappear",
            where="MEDALLION_ERASURE_KEY",
            fix="set it to the former key; the embedded stack keeps it in erasure.key, and in its backups",
        )
    return secret


async def known_fingerprints(connection: Connection[Record]) -> list[str]:
    """Of the keys that the log's hashes were made with: one, but for a log that was read back from two warehouses."""
    rows = await connection.fetch("select distinct key_hash from ops.erasures where subject = $1", _FINGERPRINT)
    return [row["key_hash"] for row in rows]


async def remember_secret(connection: Connection[Record], secret: bytes) -> None:
    """Add the key's fingerprint to the log, once. It tells whether a key is the same, and nothing else."""
    await connection.execute(
        "insert into ops.erasures (subject, key_hash, event, rows) select $1, $2, 'began', '{}' "
        "where not exists (select from ops.erasures where subject = $1)",
        _FINGERPRINT,
        _hash(secret, _FINGERPRINT, ""),
    )


async def write_links(
    connection: Connection[Record], secret: bytes, subject: Subject, key_hash: str, values: Mapping[str, list[str]]
) -> None:
    """Add the hashes of keys that belong to the subject, each once."""
    for name in subject.linked:
        kind = _kind_of_link(subject, name)
        await connection.execute(
            "insert into ops.erasures (subject, key_hash, event, rows) select $1, h, 'began', $3::jsonb "
            "from unnest($2::text[]) as h where not exists (select from ops.erasures where subject = $1 and "
            "key_hash = h)",
            kind,
            [_hash(secret, kind, value) for value in values.get(name, [])],
            json.dumps({"subject": key_hash}),
        )


async def owners_of_links(
    connection: Connection[Record], secret: bytes, subject: Subject, name: str, values: Iterable[str]
) -> set[str]:
    """The subjects, by their hashes, to whom these keys belonged."""
    kind = _kind_of_link(subject, name)
    rows = await connection.fetch(
        "select distinct rows ->> 'subject' as owner from ops.erasures where subject = $1 and key_hash = any($2)",
        kind,
        [_hash(secret, kind, value) for value in values],
    )
    return {row["owner"] for row in rows}


async def left_before(connection: Connection[Record], subject: Subject, key_hash: str) -> dict[str, int]:
    """What the last erasure of this subject left, by table and column; nothing if it was proven."""
    text = await connection.fetchval(
        "select rows::text from (select event, rows from ops.erasures where subject = $1 and key_hash = $2 "
        "and event in ('finished', 'incomplete') order by event_id desc limit 1) as last where event = 'incomplete'",
        subject.name,
        key_hash,
    )
    return dict(json.loads(text)) if text else {}


async def tables_of(connection: Connection[Record], subject: Subject, key_hash: str) -> set[str]:
    """The tables from which rows of this subject were deleted, or were to be."""
    rows = await connection.fetch(
        "select distinct jsonb_object_keys(rows) as place from ops.erasures where subject = $1 and key_hash = $2 "
        "and event in ('began', 'deleted', 'returned')",
        subject.name,
        key_hash,
    )
    return {row["place"] for row in rows}


def _kind_of_link(subject: Subject, name: str) -> str:
    return f"{subject.name}.{name}"


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


async def known_hashes(connection: Connection[Record], subject: Subject, link: str | None = None) -> list[str]:
    """All subjects of this kind whose erasure has begun; or the keys of this name that belonged to them."""
    rows = await connection.fetch(
        "select distinct key_hash from ops.erasures where subject = $1 order by 1",
        subject.name if link is None else _kind_of_link(subject, link),
    )
    return [row["key_hash"] for row in rows]


@dataclass(frozen=True, slots=True)
class Returning:
    """What is recognised in rows of a subject's kind: values of `name` whose hash is one of `hashes`."""

    subject: Subject
    name: str
    form: Form
    hashes: list[str] = field(repr=False)


async def erased_keys(
    connection: Connection[Record], place: Place, sought: Returning, secret: bytes, batches: list[int] | None
) -> set[str]:
    """Keys in the rows of these batches (None: in all rows) whose hash is in the log: erased subjects that reappeared.

    The hash is computed in the warehouse: only keys that match leave it.
    """
    found = references(place, sought.subject, sought.name)
    batch_column = "batch_id" if place.told == QUARANTINE else "_batch_id"
    if batch_column not in place.columns and place.told == FIXES:
        # A fix belongs to no load until it is loaded, and then it is in raw.
        return set()
    if not found or not sought.hashes or (batches is not None and batch_column not in place.columns):
        return set()
    kind = sought.subject.name if sought.name == sought.subject.key else _kind_of_link(sought.subject, sought.name)
    inner, outer = (bytes(byte ^ mask for byte in _padded(secret)) for mask in (0x36, 0x5C))
    keys: set[str] = set()
    for reference in found:
        where = "$1::bigint[] is null" if batches is None else f"t.{batch_column} = any($1::bigint[])"
        rows = await connection.fetch(
            f"""
            with held as ({reference.values(place, sought.form, where)})
            select v from held
            where encode(sha256($2::bytea || sha256($3::bytea || convert_to($4::text || v, 'UTF8'))), 'hex')
                = any($5::text[])
            """,
            batches,
            outer,
            inner,
            f"{kind}:",
            sought.hashes,
        )
        keys |= {row["v"] for row in rows}
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
