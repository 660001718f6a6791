"""Both ends of a table compared, whatever its kind; and what differs read again, if that is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flows.access.addresses import connect
from flows.declare.source import Loadable, Source
from flows.kinds.answers import Ends
from flows.kinds.registry import kind_of
from flows.landing.table import Target, raw_columns
from flows.observe.tracing import span
from flows.publish.identity import joined
from flows.publish.sample import sample_of
from flows.state import budgets, decisions, ledger, reconciliations
from flows.state.decisions import Origin
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.question import Question
from flows.values.row_limit import refuse_limit
from flows.verbs.approval import require

# Keys of one repairing load: one transaction, and one array in its queries.
_KEYS_REPAIRED = 5_000


async def compare_table(
    warehouse: DatabaseConnection,
    address: Any,
    source: Source,
    table: Loadable,
    *,
    run_id: int | None = None,
    repair: bool = False,
) -> Reconciliation:
    """Compare raw with the source's table; the result is recorded in ops.reconciliations.

    With `repair`, the keys that differ are read again until both ends agree or a round no longer helps; each
    comparison is recorded, and the last is returned. Kinds that compare by counts repair nothing.

    Raises:
        DataRefused: a repair would delete more of raw than is declared, or a person refused it.
        DecisionNeeded: repairs need an approval in this environment.
        MedallionError: see `flows.values.errors`; repairs that were published before stay.
    """
    if repair:
        refuse_limit("a repair reads all rows that differ", f"{source.name}.{table.name}")
    ends = Ends(warehouse, address, source, table)
    repaired, before = 0, 0
    approved: int | None = None
    while True:
        result, keys = await _compare(ends)
        result = replace(result, repaired=repaired)
        async with connect(warehouse, side="warehouse") as connection:
            await reconciliations.record(connection, run_id, result)
        if not repair or not keys or (repaired and result.differences >= before):
            if approved is not None:
                async with connect(warehouse, side="warehouse") as connection:
                    await decisions.use(connection, [approved], run_id)
            return result
        kind_of(source).refuse_repair(table, result)
        if not repaired:
            approved = await require("repair", *_question(result, run_id))
        before = result.differences
        for first in range(0, len(keys), _KEYS_REPAIRED):
            chunk = keys[first : first + _KEYS_REPAIRED]
            await kind_of(source).repair(ends, chunk, result.source_rows or 0, run_id)
            repaired += len(chunk)


def _question(result: Reconciliation, run_id: int | None) -> tuple[Question, str, Origin]:
    """What a person is shown of a repair."""
    counts = {name: getattr(result, name) for name in ("missing", "extra", "different", "duplicate")}
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    where = f"{result.source}.{result.table}"
    what = f"a repair would read {result.differences:,} keys again: {told}"
    return Question("repair", {}, counts), what, Origin(where, result.source, result.table, run_id)


async def _compare(ends: Ends[Source, Loadable]) -> tuple[Reconciliation, Sequence[Key]]:
    started = time.monotonic()
    target = Target(ends.source.name, ends.table.name, ends.source.raw_schema)
    kind = kind_of(ends.source)
    result, keys = Reconciliation(target.source, target.table, kind.compares_by, "not_compared"), list[Key]()
    async with connect(ends.warehouse, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        loaded = await raw_columns(warehouse, target) is not None
        sample = sample_of(await ledger.read_cursor(warehouse, target.source, target.table)) if loaded else None
        stopped = await budgets.stopped(warehouse, target.source, target.table)
    if sample is not None:
        result = replace(result, note=f"limited: raw has a sample of {sample:,} rows at most")
    elif loaded:
        with span("compare", by=kind.compares_by):
            result, found = await kind.compare(ends)
        keys = list(found)
        if stopped is not None and result.result == "match":
            # What was read agrees. Whether that is all, only a load that ends can say.
            result = replace(result, result="not_compared", note=joined(result.note, stopped))
    return replace(result, seconds=time.monotonic() - started), keys
