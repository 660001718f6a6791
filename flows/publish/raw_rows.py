"""A raw table's live rows for comparison, and marking of rows whose key was deleted at the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.landing.table import Stamp, Target
from flows.values.checksum import Key, RowSet, key_among
from flows.values.identifiers import quote_identifier
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def row_set(target: Target, shape: Shape, keys: tuple[str, ...], *, portable: bool = False) -> RowSet:
    """Raw's live rows."""
    return RowSet(
        target.raw,
        tuple(quote_identifier(key) for key in keys),
        tuple(quote_identifier(name) for name in shape.names),
        "_deleted_at is null",
        portable,
    )


def among(shape: Shape, names: tuple[str, ...], keys: Sequence[Key]) -> str:
    """SQL over the raw table: its key is one of these."""
    kinds = [column.raw_type for name in names if (column := shape.column(name))]
    return key_among([quote_identifier(name) for name in names], kinds, keys)


async def count_live(connection: Connection[Record], target: Target, condition: str) -> int:
    """Raw's live rows under the condition."""
    return int(
        await connection.fetchval(f"select count(*) from {target.raw} where _deleted_at is null and ({condition})")
    )


async def mark_gone(connection: Connection[Record], target: Target, condition: str, stamp: Stamp) -> int:
    """Mark raw's rows under the condition as deleted. They keep their last values; returns how many."""
    status = await connection.execute(
        f"update {target.raw} set _deleted_at = $1::text::timestamptz, _batch_id = $2 "
        f"where _deleted_at is null and ({condition})",
        stamp.extracted_at,
        stamp.batch_id,
    )
    return int(status.split()[-1])


async def drop_gone(connection: Connection[Record], target: Target, condition: str) -> int:
    """Delete raw's rows under the condition, as a replace does with deleted rows."""
    status = await connection.execute(f"delete from {target.raw} where {condition}")
    return int(status.split()[-1])
