"""Mark rows deleted at the source in raw. Every function runs inside the publishing transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.landing.copy import keys_table
from flows.landing.table import LANDING_SCHEMA, Stamp, Target
from flows.publish.shown_keys import about_deletes, digest_of_keys
from flows.publish.write import FEW_ROWS, affected
from flows.values.asking import refuse
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def mark_deleted(
    connection: Connection[Record],
    target: Target,
    keys: tuple[str, ...],
    stamp: Stamp,
    *,
    max_share: float = 1.0,
) -> int:
    """Mark raw rows whose key the source no longer has. They keep their last values; returns how many.

    Raises:
        DataRefused: they are a larger share of raw's rows than `max_share`. A source that was emptied, partly restored
            or hidden by row-level security looks the same as one whose rows were deleted.
    """
    relation = qualified(LANDING_SCHEMA, keys_table(target))
    same_key = " and ".join(f"k.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    status = await connection.execute(
        f"update {target.raw} as r set _deleted_at = $1::text::timestamptz, _batch_id = $2 "
        f"where r._deleted_at is null and not exists (select from {relation} as k where {same_key})",
        stamp.extracted_at,
        stamp.batch_id,
    )
    deleted = affected(status)
    if deleted and max_share < 1:
        held = deleted + await connection.fetchval(f"select count(*) from {target.raw} where _deleted_at is null")
        if too_many(deleted, held, max_share):
            marked = f"{target.raw} where _deleted_at is not null and _batch_id = {stamp.batch_id}"
            shown = await digest_of_keys(connection, marked, [quote_identifier(key) for key in keys])
            refuse_too_many(deleted, held, max_share, target.where, shown)
    return deleted


async def mark_keys(
    connection: Connection[Record], target: Target, keys: tuple[str, ...], relation: str, stamp: Stamp
) -> int:
    """Mark raw rows of these keys. They keep their last values; returns how many."""
    same_key = " and ".join(f"k.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    status = await connection.execute(
        f"update {target.raw} as r set _deleted_at = $1::text::timestamptz, _batch_id = $2 from {relation} as k "
        f"where r._deleted_at is null and {same_key}",
        stamp.extracted_at,
        stamp.batch_id,
    )
    return affected(status)


def too_many(deleted: int, held: int, max_share: float) -> bool:
    """Whether deleting so many of raw's rows exceeds the declared share. Few rows are exempt."""
    return held >= FEW_ROWS and deleted > held * max_share


def refuse_too_many(deleted: int, held: int, max_share: float, where: str, keys: str | None = None) -> None:
    """Raises:
    DataRefused: so many of the `held` rows are a larger share than declared, and no person has allowed it: for these
        `keys`, by their digest, if they are known.
    """
    if too_many(deleted, held, max_share):
        error = DataRefused(
            f"{deleted} of {held} rows of raw were deleted at the source: more than the declared share of "
            f"{max_share:g}; nothing was published",
            where=where,
            fix="check the source and the role's privileges to see its rows; if they are really deleted, raise "
            "max_deleted for one run (Replace and Overwrite: lower min_share)",
        )
        refuse(error, about_deletes(max_share, deleted, keys))


async def drop_earlier(connection: Connection[Record], target: Target, lists: tuple[str, str], batch_id: int) -> int:
    """Without a key: remove raw's rows of completely read lists that are not of this load; returns how many.

    `lists` as for `mark_vanished`.
    """
    relation, column = lists
    return affected(
        await connection.execute(
            f"delete from {target.raw} as r where r._batch_id <> $1 "
            f"and r.{quote_identifier(column)}::text in (select parent from {relation})",
            batch_id,
        )
    )


async def mark_vanished(
    connection: Connection[Record],
    target: Target,
    keys: tuple[str, ...],
    lists: tuple[str, str],
    stamp: Stamp,
    kept: str,
) -> int:
    """Mark raw rows that are missing in completely read lists; returns how many.

    `lists` are a relation with a column `parent`, and raw's corresponding column. `kept` is SQL over `raw as r` for
    rows to be skipped.
    """
    relation, column = lists
    same_key = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    return affected(
        await connection.execute(
            f"update {target.raw} as r set _deleted_at = $1::text::timestamptz, _batch_id = $2 "
            f"where r._deleted_at is null and r.{quote_identifier(column)}::text in (select parent from {relation}) "
            f"and not exists (select from {target.landing} as l where {same_key}) and not {kept}",
            stamp.extracted_at,
            stamp.batch_id,
        )
    )
