"""What a recovery of tables would do: both ends are compared, and nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare import Timestamp
from flows.declare.partition import partitions
from flows.declare.source import Loadable, Source
from flows.failures.diagnose import diagnose
from flows.kinds.registry import kind_of
from flows.landing.table import Target, raw_columns
from flows.state import budgets, ledger, recoveries
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DeclarationError
from flows.verbs.backfill import count_partitions, dividing_column
from flows.verbs.compare import compare_table
from flows.verbs.cursor import move_cursor
from flows.verbs.find import choose, find_source
from flows.verbs.plan import plan_sources
from flows.verbs.recovery import Asked, Found, Plan, decide, refuse_window
from flows.verbs.replay import plan_replay

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def look(names: Sequence[str], asked: Asked) -> list[Plan]:
    """What differs in each table, and what a recovery would do. Records the comparisons, and changes nothing else.

    Raises:
        DeclarationError: a table is not declared, or the days cannot be read again.
        MedallionError: the warehouse does not answer.
    """
    refuse_window(asked, names)
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        found = []
        for source_name, tables in choose(list(names)).items():
            source = find_source(source_name)
            for table in source.tables:
                if tables is None or table.name in tables:
                    found.append(await _look_at(warehouse, source, table, asked))
    return [decide(one, until_today(asked)) for one in found]


def until_today(asked: Asked) -> Asked:
    """With an end: today, if the days have only a beginning."""
    return replace(asked, last=datetime.now(UTC).date()) if asked.first and asked.last is None else asked


async def _look_at(warehouse: Connection[Record], source: Source, table: Loadable, asked: Asked) -> Found:
    found = Found(source, table)
    name = found.name
    try:
        (line,) = await plan_sources({source.name: [table.name]})
        if line.error is not None:
            raise line.error
        found = replace(
            found,
            pending=line.rows,
            deletes_pending=line.keys_differ,
            is_loaded=await raw_columns(warehouse, Target(source.name, table.name, source.raw_schema)) is not None,
            unfinished=await _unfinished(warehouse, source.name, table.name),
            interrupted=await recoveries.interrupted(warehouse, source.name, table.name),
            cost=await recoveries.usual_load(warehouse, source.name, table.name),
        )
        if not found.is_loaded:
            return found
        if asked.first is not None:
            found = await _look_at_window(found, until_today(asked), open_end=asked.last is None)
        else:
            address = kind_of(source).address(source)
            compared = await compare_table(addresses.warehouse(), address, source, table)
            found = replace(found, compared=compared)
        outcomes = [one for planned in await plan_replay([name]) for one in planned.outcomes]
        return replace(found, replayable=sum(one.rows for one in outcomes if one.verdict is None))
    except DeclarationError:
        if asked.first is not None:
            raise
        return replace(found, compared=Reconciliation(source.name, table.name, "count", "not_compared"))
    except Exception as problem:
        return replace(found, error=diagnose(problem, name).error)


async def _look_at_window(found: Found, asked: Asked, *, open_end: bool) -> Found:
    """With the rows of the days; without an end, and without a column that divides the table, by its cursor."""
    source, table = found.source, found.table
    assert asked.first is not None
    assert asked.last is not None
    try:
        column = dividing_column(source, table, asked.by)
    except DeclarationError:
        if asked.by is not None or not open_end or not isinstance(table.cursor, Timestamp):
            raise
        move = await move_cursor(found.name, midnight(asked.first), "medallion recover", only_plan=True)
        if move.goes_back is False:
            raise DeclarationError(
                f"the cursor is at {move.before}, before --from: rows in between would be skipped",
                where=found.name,
                fix="omit --from: whatever differs is found",
            ) from None
        return replace(found, window_rows=move.rows)
    wanted = partitions(asked.first, asked.last, asked.every)
    counted, _ = await count_partitions(source, table, column, wanted)
    return replace(found, divided_by=column, window_rows=sum(rows for _, rows, _ in counted))


def midnight(day: date) -> str:
    """The beginning of a day, as a value of a cursor."""
    return f"{day} 00:00:00"


async def _unfinished(warehouse: Connection[Record], source: str, table: str) -> str | None:
    """Why the table's last load did not read to its end."""
    if (why := await budgets.stopped(warehouse, source, table)) is not None:
        return why
    row = await warehouse.fetchrow(
        "select status, error from ops.loads where source_system = $1 and table_name = $2 "
        "and strategy not in ('repair', 'replay', 'backfill') order by batch_id desc limit 1",
        source,
        table,
    )
    if row is None or row["status"] in ("published", "running"):
        return None
    return f"the last load was {row['status']}" if row["status"] != "failed" else "the last load failed"
