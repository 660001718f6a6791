"""A load of one partition of a table: reload, check, merge; rows deleted at the source are marked.

It moves no cursor and adds no column, so scheduled loads continue: both take the table's lock in turn.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare import Append, Overwrite, Replace
from flows.declare.database import Database
from flows.declare.partition import Partition
from flows.declare.table import Table
from flows.kinds.answers import Ends
from flows.kinds.postgres.compare import source_rows as extract_buckets
from flows.kinds.postgres.large.volume import estimate
from flows.kinds.postgres.moved import bring_moved
from flows.kinds.postgres.partitions import dividing_column
from flows.kinds.postgres.queries import refuse_unlocked
from flows.kinds.postgres.reading import settled, start_reading
from flows.kinds.postgres.rows import land
from flows.kinds.postgres.table import CopyStream, count, describe, key_set, select_rows
from flows.landing.drift import fit_to_raw
from flows.landing.table import Stamp, Target, ensure_types, raw_columns
from flows.publish import raw_rows as load_buckets
from flows.publish.deletes import refuse_too_many
from flows.publish.evolution import beside_scheduled_loads
from flows.publish.identity import refuse_other_masks
from flows.publish.publish import check_and_publish
from flows.publish.session import LoadResult, LoadSession, Progress, load_session
from flows.publish.staged import Held, Staged
from flows.quality.open_rows import count_open_within
from flows.state import backfills, ledger
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.errors import DeclarationError
from flows.values.identifiers import quote_identifier
from flows.values.plan import KeySet, LoadPlan, Window
from flows.values.shape import Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

STRATEGY = "backfill"

_CORRECT = "correct --by"
# Keys looked up at the source per query.
_KEYS_AT_ONCE = 5_000


def refuse_unfit(source: Database, table: Table, column: str | None) -> str:
    """The partition column.

    Raises:
        DeclarationError: the table cannot be read by partition.
    """
    where = f"{source.name}.{table.name}"
    if source.engine != "postgresql":
        raise DeclarationError(
            f"backfill is supported for PostgreSQL only, and this source runs on {source.engine}",
            where=where,
            fix=f"for a full reload, `medallion reload {where}` and `medallion run {where}`",
        )
    if isinstance(table.load, Replace):
        raise DeclarationError(
            "every run of a replace reads the full table, so there is nothing to backfill",
            where=where,
            fix=f"`medallion run {where}`",
        )
    if isinstance(table.load, Overwrite):
        if column not in (None, table.load.by):
            raise DeclarationError(
                f"the table is partitioned by {table.load.by}, so --by cannot name another column",
                where=where,
                fix=f"omit --by, or name {table.load.by}",
            )
        return table.load.by
    if not table.keys:
        raise DeclarationError(
            "the table has no key, so a backfill would duplicate rows",
            where=where,
            fix=f"declare the key, or `medallion reload {where} --recreate`",
        )
    if column is None:
        raise DeclarationError(
            "the partition column is not specified",
            where=where,
            fix="pass it, for example --by sold_at; use a column that does not change, unlike updated_at",
        )
    return column


async def rows_within(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    column: str,
    wanted: list[Partition],
) -> tuple[list[tuple[Partition, int, int]], bool]:
    """The partitions of a backfill: (partition, rows at the source, live rows in raw); and whether an index helps.

    Raises:
        MedallionError: a side does not respond, or the column cannot be a partition column.
    """
    target = Target(source.name, table.name, source.raw_schema)
    async with (
        connect(warehouse_address, side="warehouse") as warehouse,
        connect(origin_address, side="source", application=f"medallion read {target.where}") as origin,
        settled(origin, source, table),
    ):
        shape = await describe(origin, source.name, source.raw_schema, table)
        dividing_column(shape, column, target.where, _CORRECT)
        known = await raw_columns(warehouse, target)
        indexed = bool((await estimate(origin, table, shape, "true")).index_on((column,)))
        found = []
        for partition in wanted:
            condition = _within(column, partition)
            held = await load_buckets.count_live(warehouse, target, condition) if known else 0
            found.append((partition, await count(origin, table, condition), held))
        return found, indexed


def _within(column: str, partition: Partition) -> str:
    # Whether the column is a date or a timestamp: the literal takes its type. Our sessions are in UTC.
    name = quote_identifier(column)
    return f"({name} >= '{partition.lower}' and {name} < '{partition.upper}')"


async def backfill_partition(
    ends: Ends[Database, Table],
    column: str,
    partition: Partition,
    backfill_id: int,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Make raw's rows of the partition equal to the source; the ledger has it as strategy `backfill`.

    Raises:
        MedallionError: see `flows.values.errors`; nothing partial is left.
    """
    source, table = ends.source, ends.table
    target = Target(source.name, table.name, source.raw_schema)
    lower, upper = str(partition.lower), str(partition.upper)
    plan = LoadPlan(source.name, table.name, STRATEGY, "backfill of a partition", lower, upper)
    async with load_session(ends.warehouse, target, STRATEGY, run_id) as session:
        state = await ledger.read_cursor(session.warehouse, source.name, table.name)
        known = await raw_columns(session.warehouse, target)
        if known is None:
            raise DeclarationError(
                "the table was never loaded, so there is nothing to backfill",
                where=target.where,
                fix=f"`medallion run {target.where}` loads it",
            )
        refuse_other_masks(state, known, table, target.where)
        async with contextlib.AsyncExitStack() as opened:
            condition = _within(column, partition)
            extracted_at = datetime.now(UTC).isoformat()
            # An overwrite writes and counts the partition as its scheduled loads do.
            overwrites = isinstance(table.load, Overwrite)
            with session.reading():
                origin = await opened.enter_async_context(
                    connect(ends.address, side="source", application=f"medallion read {target.where}")
                )
                shape = await start_reading(origin, ends.address, source, table)
                kind = dividing_column(shape, column, target.where, _CORRECT).raw_type
                shape, held = beside_scheduled_loads(shape, known, table, target.where)
                source_keys = await key_set(origin, table, shape, condition) if overwrites else None
            stream = CopyStream(origin, select_rows(table, shape, condition))
            labels = await ensure_types(session.warehouse, target, shape)
            window = Window(condition, condition, lower, upper, state)
            await land(session, shape, stream, extracted_at, on_progress)
            moved = await bring_moved(session, origin, table, shape, window)
            session.pass_failpoint("after_copy")
            with session.reading():
                await refuse_unlocked(origin, table, target.where)
            shape, drift = await fit_to_raw(session.warehouse, target, shape, held)

            async def settle() -> tuple[Held, int]:
                ended = await _end_gone(session, origin, table, shape, condition, extracted_at)
                if ended:
                    await _refuse_too_many(session, table, condition, ended, backfill_id)
                live = await load_buckets.count_live(session.warehouse, target, condition)
                aside = await count_open_within(
                    session.warehouse, target.raw, column, kind, partition, _key_types(table, shape), table=target.name
                )
                return Held(KeySet(live), KeySet(aside)), ended

            async def note(warehouse: Connection[Record], batch_id: int) -> None:
                await backfills.record_partition(warehouse, backfill_id, partition, batch_id)

            counts = await check_and_publish(
                ends.warehouse,
                session,
                Staged(
                    load=table.load,
                    shape=shape,
                    keys=table.keys,
                    window=window,
                    first=False,
                    rows_read=stream.rows + moved[0],
                    received_bytes=stream.bytes + moved[1],
                    extracted_at=extracted_at,
                    cursor=table.cursor_column,
                    rules=(*drift, *table.rules),
                    tolerance=table.tolerance,
                    on_duplicate=table.on_duplicate,
                    changes=tuple(labels),
                    source_keys=source_keys or KeySet(stream.rows),
                    settle=None if overwrites else settle,
                    moves_cursor=False,
                ),
                note,
            )
        return session.result(plan, counts, table)


async def _refuse_too_many(session: LoadSession, table: Table, condition: str, ended: int, backfill_id: int) -> None:
    """Of the partition, and of all rows by all partitions of the backfill: each of them may be small.

    Raises:
        DataRefused: more rows were marked as deleted than declared. Nothing of the partition was published.
    """
    warehouse, target = session.warehouse, session.target
    held = ended + await load_buckets.count_live(warehouse, target, condition)
    refuse_too_many(ended, held, table.max_deleted, target.where)
    ended += await backfills.deleted_so_far(warehouse, backfill_id)
    held = ended + await load_buckets.count_live(warehouse, target, "true")
    refuse_too_many(ended, held, table.max_deleted, target.where)


def _key_types(table: Table, shape: Shape) -> dict[str, str]:
    return {key: column.raw_type for key in table.keys if (column := shape.column(key))}


async def _end_gone(
    session: LoadSession,
    origin: Connection[Record],
    table: Table,
    shape: Shape,
    condition: str,
    moment: str,
) -> int:
    """Mark raw's rows of the partition that no longer exist at the source. Returns how many.

    A row that moved to another partition, or is quarantined, is not deleted: its key is looked up at the source.
    """
    if not table.deletes or isinstance(table.load, Append):
        return 0
    target, warehouse = session.target, session.warehouse
    same = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in table.keys)
    texts = ", ".join(f"r.{quote_identifier(key)}::text" for key in table.keys)
    missing = await warehouse.fetch(
        f"select array[{texts}] as key from {target.raw} as r where r._deleted_at is null and {condition} "
        f"and not exists (select from {target.landing} as l where {same}) order by {column_list(table.keys, 'r')}"
    )
    ended = 0
    for begin in range(0, len(missing), _KEYS_AT_ONCE):
        keys: list[Key] = [tuple(record["key"]) for record in missing[begin : begin + _KEYS_AT_ONCE]]
        with session.reading():
            found = await extract_buckets.versions(origin, table, shape, keys, "false")
        gone = [key for key in keys if key not in found]
        among = load_buckets.among(shape, table.keys, gone)
        ended += await load_buckets.mark_gone(warehouse, target, among, Stamp(moment, session.batch_id))
    return ended
