"""Quarantine: rows that failed row checks, stored in full with the reason, until a good version arrives.

A row that a person fixed by hand or discarded is no new one when the source sends it again unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING

from flows.declare.rule import Rule
from flows.quality.open_rows import FIXED_BY_HAND, KEY_NOT_UNIQUE, released, same_key
from flows.quality.rules import first_broken
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import Shape, row_document
from flows.values.table_name import TableName

if TYPE_CHECKING:
    from asyncpg import Connection, Record


_SAME_HASH = "k.row_hash = q.row_hash"
# Of rows fixed by hand, by which `fixes.put_in_place` finds what the load has read again. `{h}` has rule and row_hash.
_SEEN = (
    "update quarantine.rows as q set seen_batch_id = $3 from {h} as h "
    "where q.source_system = $1 and q.table_name = $2 and q.withheld "
    f"and q.resolution = '{FIXED_BY_HAND}' and q.rule = h.rule and q.row_hash = h.row_hash"
)
_STORED_ONCE = "on conflict (source_system, table_name, rule, row_hash) where withheld do nothing"


def _digest(keys: Collection[str]) -> str:
    """SQL over rows with `row_data`: the identity of quarantined rows.

    Without a key, or with a null in it, equal rows are numbered: each is stored, as each counts at the source.
    """
    place = "coalesce('#' || nullif(row_number() over (partition by md5(row_data::text)), 1), '')"
    if keys:
        keyless = " or ".join(f"row_data ->> {quote_literal(key)} is null" for key in keys)
        place = f"case when {keyless} then {place} else '' end"
    return f"md5(row_data::text || {place})"


def _key_json(keys: tuple[str, ...], alias: str) -> str:
    pairs = ", ".join(f"{quote_literal(key)}, {alias}.{quote_identifier(key)}" for key in keys)
    return f"jsonb_build_object({pairs})" if keys else "null::jsonb"


async def move_broken(
    connection: Connection[Record],
    landing: str,
    shape: Shape,
    rules: tuple[Rule, ...],
    keys: tuple[str, ...],
    *,
    table: TableName,
    batch_id: int,
) -> int:
    """Landing rows that break a rule → quarantine.rows, in the publishing transaction. Returns how many were removed.

    A bad row read a second time is removed from landing again, but stored once; a changed bad row replaces its older
    version.
    """
    return int(
        await connection.fetchval(
            f"""
            with judged as (
                select l.ctid as place, {first_broken(rules)} as rule from {landing} as l
            ), taken as (
                delete from {landing} as l using judged as j
                where l.ctid = j.place and j.rule is not null
                returning j.place, j.rule, {_key_json(keys, "l")} as row_key, {row_document(shape, "l")} as row_data
            ), hashed as (
                select *, {_digest(keys)} as row_hash from taken
            ), superseded as (
                update quarantine.rows as q set {released("'superseded'")}
                from hashed as h
                where q.source_system = $1 and q.table_name = $2 and q.withheld
                    and q.row_key = h.row_key and not h.row_key @? '$.* ? (@ == null)'
                    and (q.rule, q.row_hash) <> (h.rule, h.row_hash)
                returning q.quarantine_id
            ), seen as (
                {_SEEN.format(h="hashed")}
            ), kept as (
                insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash)
                select $3, $1, $2, row_key, rule, row_data, row_hash from hashed order by place
                {_STORED_ONCE}
                returning quarantine_id
            )
            select count(*) from taken
            """,
            table.source,
            table.name,
            batch_id,
        )
    )


async def count_known(
    connection: Connection[Record],
    landing: str,
    shape: Shape,
    rules: tuple[Rule, ...],
    keys: tuple[str, ...],
    *,
    table: TableName,
) -> int:
    """Landing rows that break a rule and are already quarantined unchanged.

    If two reads overlap, the second may consist mostly of the bad rows of the first.
    """
    return int(
        await connection.fetchval(
            f"""
            with judged as (
                select l.ctid as place, {first_broken(rules)} as rule from {landing} as l
            ), broken as (
                select j.rule, {row_document(shape, "l")} as row_data
                from {landing} as l inner join judged as j on l.ctid = j.place
                where j.rule is not null
            ), hashed as (
                select rule, {_digest(keys)} as row_hash from broken
            )
            select count(*) from hashed as b where exists (
                select from quarantine.rows as q
                where q.source_system = $1 and q.table_name = $2 and q.withheld
                    and q.rule = b.rule and q.row_hash = b.row_hash
            )
            """,
            table.source,
            table.name,
        )
    )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that raw cannot hold: the rule it breaks, its text, and its key's text (or texts, with several columns),
    if that could be read.

    `is_document`: the text is JSON with the texts of the row's columns, by which a person can fix it.
    """

    rule: str
    text: str
    key: str | tuple[str | None, ...] | None = None
    is_document: bool = False


async def count_known_unreadable(
    connection: Connection[Record], records: Sequence[Unreadable], keys: Collection[str], *, table: TableName
) -> int:
    """Unreadable records that are already quarantined unchanged."""
    return int(
        await connection.fetchval(
            "select count(*) from unnest($3::text[], $4::text[]) as u (rule, hashed) where exists ("
            "select from quarantine.rows as q where q.source_system = $1 and q.table_name = $2 "
            "and q.withheld and q.rule = u.rule and q.row_hash = md5(u.hashed))",
            table.source,
            table.name,
            [record.rule for record in records],
            _told_apart(records, keys),
        )
    )


def _told_apart(records: Sequence[Unreadable], keys: Collection[str]) -> list[str]:
    """The records' texts to be hashed; without a key, equal ones are numbered as in `_digest`."""
    if keys:
        return [record.text for record in records]
    seen = Counter[str]()
    texts = []
    for record in records:
        seen[record.text] += 1
        texts.append(record.text if seen[record.text] == 1 else f"{record.text}#{seen[record.text]}")
    return texts


async def keep_unreadable(
    connection: Connection[Record],
    records: Sequence[Unreadable],
    keys: Mapping[str, str],
    *,
    table: TableName,
    batch_id: int,
) -> int:
    """Records that cannot become rows → quarantine.rows. Returns how many.

    `keys` maps the key's columns to their types in raw. With its key, it is released once fixed at the source.
    """
    # Built from the key's texts, in the columns' types; null if one of them is missing or invalid.
    parts = [
        f"{quote_literal(name)}, ($6::text[])[{place}]::{kind}" for place, (name, kind) in enumerate(keys.items(), 1)
    ]
    valid = [
        f"pg_input_is_valid(($6::text[])[{place}], {quote_literal(kind)})"
        for place, kind in enumerate(keys.values(), 1)
    ]
    row_key = f"case when {' and '.join(valid)} then jsonb_build_object({', '.join(parts)}) end" if keys else "null"
    known = "(select $4::text as rule, md5($7::text) as row_hash)"
    for record, hashed in zip(records, _told_apart(records, keys), strict=True):
        texts = [record.key] if record.key is None or isinstance(record.key, str) else list(record.key)
        data = "u.text::jsonb" if record.is_document else "jsonb_build_object('text', u.text)"
        await connection.execute(
            f"with seen as ({_SEEN.format(h=known)}) "
            "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
            f"select $3, $1, $2, {row_key}, u.rule, {data}, md5($7::text) "
            "from (select $4::text as rule, $5::text as text, $6::text[] as key_texts) as u "
            f"{_STORED_ONCE}",
            table.source,
            table.name,
            batch_id,
            record.rule,
            record.text,
            texts,
            hashed,
        )
    return len(records)


async def resolve(
    connection: Connection[Record], landing: str, shape: Shape, keys: Mapping[str, str], *, table: TableName
) -> int:
    """Release quarantined rows whose key arrived with a good row or a tombstone in this load. Returns how many.

    `keys` maps the key's columns to their types in raw. Without a key: an unchanged row that now breaks no rule,
    because the rule changed or raw has a column for all of its values.
    """
    there, same = f"{landing} as l", same_key(keys, "l") if keys else "l.row_hash = q.row_hash"
    if not keys:
        documents = f"select {row_document(shape, 'm')} as row_data from {landing} as m"
        there = f"(select {_digest(keys)} as row_hash from ({documents}) as d) as l"
    resolution = "'fixed at the source'"
    if keys:
        resolution = f"case when l._deleted_at is null then {resolution} else 'deleted at the source' end"
    status = await connection.execute(
        f"update quarantine.rows as q set {released(resolution)} from {there} "
        f"where q.source_system = $1 and q.table_name = $2 and q.withheld "
        # That one row of such a key came does not mean that the other copies are gone: see `duplicates`.
        f"and q.rule <> '{KEY_NOT_UNIQUE}' and {same}",
        table.source,
        table.name,
    )
    return int(status.split()[-1])


@dataclass(frozen=True, slots=True)
class WholeRows:
    """Whole rows were read, not only keys. `unread` are records that were read and cannot become rows (None: nothing is
    known of such): other ones in quarantine are closed, also if they have no key."""

    unread: Sequence[Unreadable] | None = None


async def resolve_gone(
    connection: Connection[Record],
    keys_relation: str,
    shape: Shape,
    keys: Mapping[str, str],
    *,
    table: TableName,
    within: str = "true",
    read: WholeRows | None = None,
) -> int:
    """Close quarantined rows whose key was deleted at the source. Returns how many.

    Without a key, `keys_relation` has the source's rows, and a quarantined row that is missing there is deleted. A key
    with a null in it tells no rows apart: if the relation has whole rows (`read`), they are compared by content, and
    with keys alone they stay as long as there is such a key. `within` is SQL over `quarantine.rows as q`: only those
    are checked.
    """
    unread = None if read is None else read.unread
    has_null = "q.row_key @? '$.* ? (@ == null)'"
    documents = f"select {row_document(shape, 'l')} as row_data from {keys_relation} as l"
    if not keys:
        ways = [("true", f"(select {_digest(keys)} as row_hash from ({documents}) as d) as k", _SAME_HASH)]
    else:
        there, keyless = f"{keys_relation} as k", " or ".join(f"l.{quote_identifier(key)} is null" for key in keys)
        ways = [(f"not {has_null}", there, same_key(keys, "k")), (has_null, there, same_key(keys, "k", nulls=True))]
        if read is not None:
            those = f"(select {_digest(keys)} as row_hash from ({documents} where {keyless}) as d) as k"
            ways[1] = (has_null, those, _SAME_HASH)
        if unread is not None:
            ways.append(("q.row_key is null", "(select) as k", "false"))
    closed, gone = 0, released("'deleted at the source'")
    for which, there, same in ways:
        status = await connection.execute(
            f"update quarantine.rows as q set {gone} "
            "where q.source_system = $1 and q.table_name = $2 and q.withheld "
            f"and {'q.row_key is not null' if keys and unread is None else 'true'} and {which} and {within} "
            f"and q.row_hash <> all($3::text[]) and not exists (select from {there} where {same})",
            table.source,
            table.name,
            [md5(text.encode(), usedforsecurity=False).hexdigest() for text in _told_apart(unread or (), keys)],
        )
        closed += int(status.split()[-1])
    return closed
