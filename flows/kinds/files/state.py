"""What is known of a table's files, in `ops.files`: written in the publishing transaction, so it is never ahead of the
rows nor behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flows.values.table_name import TableName

if TYPE_CHECKING:
    from asyncpg import Connection, Record

State = Literal["loaded", "same content", "replaced", "vanished"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One content of a path. `released`: it was archived or deleted after its load."""

    path: str
    digest: str
    signature: str
    size: int
    rows: int
    state: State
    released: bool = False


class KnownFiles:
    """All of them, of one table."""

    def __init__(self, files: Iterable[KnownFile] = ()) -> None:
        self._files = tuple(files)
        self.now = {one.path: one for one in self._files if one.state in ("loaded", "same content")}
        self.held = {one.digest: one for one in self._files if one.state == "loaded"}

    @property
    def sizes(self) -> set[int]:
        """Sizes of the contents that raw has: a file of another size is surely new."""
        return {one.size for one in self.held.values()}

    @property
    def rows(self) -> int:
        """Rows of the contents that raw has."""
        return sum(one.rows for one in self.held.values())


async def read_files(connection: Connection[Record], table: TableName) -> KnownFiles:
    """The table's files as of the last published load; none if the warehouse has no such table yet."""
    if not await connection.fetchval("select to_regclass('ops.files') is not null"):
        return KnownFiles()
    records = await connection.fetch(
        "select path, content_hash, signature, size_bytes, rows_read, state, released_at is not null as released "
        "from ops.files where source_system = $1 and table_name = $2 order by batch_id",
        table.source,
        table.name,
    )
    return KnownFiles(KnownFile(*record.values()) for record in records)


async def mark_released(connection: Connection[Record], table: TableName, paths: Sequence[str]) -> None:
    """Note that files are archived or deleted by us: that they are gone then says nothing of their rows."""
    await connection.execute(
        "update ops.files set released_at = clock_timestamp() "
        "where source_system = $1 and table_name = $2 and path = any($3::text[]) "
        "and state in ('loaded', 'same content')",
        table.source,
        table.name,
        list(paths),
    )


async def forget_files(connection: Connection[Record], table: TableName) -> None:
    """Of a raw table that is no more: its files count as new."""
    await connection.execute(
        "delete from ops.files where source_system = $1 and table_name = $2", table.source, table.name
    )


async def save_files(
    connection: Connection[Record], table: TableName, files: Sequence[KnownFile], batch_id: int, *, replaces: bool
) -> None:
    """Store what became of files. `replaces`: other contents of their paths are no longer in raw."""
    if replaces:
        await connection.execute(
            "update ops.files as f set state = 'replaced' "
            "from unnest($3::text[], $4::text[]) as n (path, digest) "
            "where f.source_system = $1 and f.table_name = $2 and f.path = n.path and f.content_hash <> n.digest "
            "and f.state in ('loaded', 'same content')",
            table.source,
            table.name,
            [one.path for one in files],
            [one.digest for one in files],
        )
    await connection.execute(
        "insert into ops.files as f (source_system, table_name, path, content_hash, signature, size_bytes, rows_read, "
        "state, batch_id) select $1, $2, n.path, n.digest, n.signature, n.size, n.rows, n.state, $9 "
        "from unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[]) "
        "as n (path, digest, signature, size, rows, state) "
        "on conflict (source_system, table_name, path, content_hash) do update set signature = excluded.signature, "
        "rows_read = excluded.rows_read, state = excluded.state, batch_id = excluded.batch_id, "
        "loaded_at = clock_timestamp(), released_at = null",
        table.source,
        table.name,
        [one.path for one in files],
        [one.digest for one in files],
        [one.signature for one in files],
        [one.size for one in files],
        [one.rows for one in files],
        [one.state for one in files],
        batch_id,
    )
