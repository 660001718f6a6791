"""Which rows a person was asked about: a digest of their keys, made in the warehouse.

It is equal for equal sets in any order, needs no sorting and no memory, and tells nothing of the keys: the hash has the
seed of this warehouse, which only the loader reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.values.question import Question

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def digest_of_keys(connection: Connection[Record], rows: str, key: Sequence[str]) -> str:
    """Sixteen hexadecimal digits. `rows` is what follows `from`, `key` SQL over its rows."""
    text = f'row({", ".join(key)})::text collate "C"'
    mark = await connection.fetchval(
        f"select coalesce(sum(hashtextextended({text}, (select seed from ops.profile_seed))), 0) from {rows}"
    )
    return f"{int(mark) % 2**64:016x}"


def about_deletes(allowed_share: float, deleted: int, keys: str | None, **exact: Any) -> Question:
    """The question whether so many rows may be deleted: these, by the digest of their keys."""
    of_keys: Mapping[str, str] = {} if keys is None else {"keys": keys}
    return Question("deletes", {"allowed share": allowed_share, **exact, **of_keys}, {"deleted": deleted})
