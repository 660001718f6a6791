"""What a row limit leaves in raw, and what the next load makes of it.

A limited load of a table that was never loaded leaves a sample, and its stored state says so instead of a cursor: the
next load reads all rows. Of a table that was loaded in full, it brings some rows up to date, and leaves the cursor
where it is. It never deletes rows of a full load.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from flows.declare.table import Table
from flows.publish.identity import joined
from flows.publish.session import LoadSession
from flows.values.errors import DeclarationError
from flows.values.plan import CursorState, LoadPlan, Reading
from flows.values.row_limit import LIMITED, in_words

_LIMIT = "limited"


def sample_of(state: CursorState) -> int | None:
    """The limit of the loads that raw's rows are from; None if raw had a full load."""
    limit = state.identity.get(_LIMIT)
    return None if limit is None else int(limit)


def of_a_sample(identity: Mapping[str, Any], limit: int) -> CursorState:
    """What is stored after a limited load: what it read from, and no cursor."""
    return CursorState(identity={**identity, _LIMIT: limit})


def limited_plan(plan: LoadPlan, limit: int, *, keeps_cursor: bool) -> LoadPlan:
    """The plan of a load that reads so many rows at most."""
    rows = f"{limit:,} rows at most"
    return replace(
        plan,
        strategy=LIMITED,
        reason=f"{rows}, and the cursor stays" if keeps_cursor else f"a sample of {rows}",
        upper=None,
        warning=joined(plan.warning, in_words(limit)),
        reading=Reading(rows=min(limit, plan.reading.rows)),
    )


def only_columns(table: Table, names: Collection[str]) -> Table:
    """The table without columns that raw lacks: once raw had them, nothing would say that older rows lack values."""
    return replace(
        table,
        columns=tuple(names),
        exclude=(),
        as_text=tuple(name for name in table.as_text if name in names),
        masked={name: mask for name, mask in table.masked.items() if name in names},
    )


async def leave_out_tombstones(session: LoadSession) -> None:
    """A limited load marks nothing as deleted, not even what the source says is."""
    done = await session.warehouse.execute(f"delete from {session.target.landing} where _deleted_at is not null")
    session.rows_read -= int(done.split()[-1])


def refuse_beside_full_load(keys: Collection[str], where: str) -> None:
    """Of a table that was loaded in full.

    Raises:
        DeclarationError: without a key, rows that are read again cannot be told from those in raw.
    """
    if not keys:
        raise DeclarationError(
            "raw has a full load, and without a key a limited load cannot tell new rows from those in raw",
            where=where,
            fix="run it without --limit; or declare a key; or begin a new raw table with "
            f"`medallion reload {where} --recreate`",
        )


def full_load_follows(limit: int) -> str:
    """Why the load after a limited one reads all rows."""
    return f"raw has a sample of {limit:,} rows at most: all rows are read"
