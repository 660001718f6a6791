"""Rows of quarantine loaded again: through the same checks and the same publishing transaction as any load.

find the table → lock it → assess the chosen rows → stage those that pass → check and publish, and close them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare import Append, Merge
from flows.declare.rule import Tolerance
from flows.declare.source import Loadable, Source
from flows.kinds.registry import kind_of
from flows.landing.table import Stamp, create_landing, raw_columns, stamp_landing
from flows.publish import replay as replays
from flows.publish.publish import check_and_publish
from flows.publish.replay import Beside, Chosen, Replay
from flows.publish.session import LoadResult, load_session
from flows.publish.staged import Held, Staged
from flows.quality import entries
from flows.state import ledger
from flows.values.plan import KeySet, LoadPlan, Window
from flows.verbs.find import find_table

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The strategy of such a load in the ledger.
STRATEGY = "replay"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Chosen rows of a table by what becomes of them: `verdict` (None: loaded), their rule, how many, and some ids."""

    table: str
    rule: str
    verdict: str | None
    rows: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or with a plan would do, in one table; `result` is None if nothing was loaded."""

    table: str
    outcomes: Sequence[Outcome]
    result: LoadResult | None = None


async def plan_replay(names: Sequence[str], rule: str | None = None) -> list[Replayed]:
    """What a replay of these rows would load, and what would be refused again. Changes nothing.

    `names` are ids of quarantined rows, or tables of sources.

    Raises:
        DeclarationError: a table is not declared, or there is no such row.
    """
    planned = []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        for table, chosen in (await _choose(warehouse, names, rule)).items():
            async with warehouse.transaction(readonly=True):
                replay = await _open(warehouse, *find_table(table))
                planned.append(Replayed(table, await _outcomes(warehouse, table, replay.assessed(chosen))))
    return planned


async def replay(names: Sequence[str], by: str, rule: str | None = None, run_id: int | None = None) -> list[Replayed]:
    """Load these rows again; those that pass are closed, the others stay as they are. Twice does as much as once.

    Raises:
        LoadLocked: a load of the table was running during the full wait.
        MedallionError: see `flows.values.errors`; tables that were published before stay.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        chosen = await _choose(warehouse, names, rule)
        waiting = {name: one for name, one in chosen.items() if await entries.any_of(warehouse, name, one.condition)}
    return [
        await _replay(*find_table(name), one, by, run_id) if name in waiting else Replayed(name, ())
        for name, one in chosen.items()
    ]


async def _choose(warehouse: Connection[Record], names: Sequence[str], rule: str | None) -> dict[str, Chosen]:
    chosen = {name: Chosen(rule=rule) for name in names if not name.isdecimal()}
    for name in chosen:
        find_table(name)
    ids = [int(name) for name in names if name.isdecimal()]
    of_tables: dict[str, list[int]] = {}
    for entry in await entries.find(warehouse, ids):
        of_tables.setdefault(entry.table, []).append(entry.number)
    return chosen | {name: Chosen(numbers, rule) for name, numbers in of_tables.items() if name not in chosen}


async def _open(warehouse: Connection[Record], source: Source, table: Loadable) -> Replay:
    target, kind = Beside(source.name, table.name, source.raw_schema), kind_of(source)
    replay = await replays.open_replay(warehouse, target, table.keys, kind.row_checks(table))
    state = await ledger.read_cursor(warehouse, source.name, table.name)
    kind.refuse_replay(table, state, await raw_columns(warehouse, target) or {}, target.where)
    return replay


async def _outcomes(warehouse: Connection[Record], name: str, assessed: str) -> list[Outcome]:
    records = await warehouse.fetch(
        "select rule, verdict, count(*) as rows, (array_agg(quarantine_id order by quarantine_id))[:5] as ids "
        f"from ({assessed}) as j group by 1, 2 order by 2 nulls first, 1"
    )
    return [Outcome(name, one["rule"], one["verdict"], one["rows"], one["ids"]) for one in records]


async def _replay(source: Source, table: Loadable, chosen: Chosen, by: str, run_id: int | None) -> Replayed:
    address, target = addresses.warehouse(), Beside(source.name, table.name, source.raw_schema)
    async with load_session(address, target, STRATEGY, run_id) as session:
        warehouse = session.warehouse
        replay = await _open(warehouse, source, table)
        extracted_at = datetime.now(UTC).isoformat()
        await create_landing(warehouse, target, replay.shape, first=False, bare=True)
        await stamp_landing(warehouse, target, Stamp(extracted_at, session.batch_id))
        session.pass_failpoint("after_landing_created")
        # Assessed under the table's lock: no load can bring another version of a row meanwhile.
        staged, kept_back = await replays.stage(warehouse, replay, chosen)
        session.rows_read = staged + kept_back
        outcomes = await _outcomes(warehouse, target.where, f"select * from {target.assessed}")
        session.pass_failpoint("after_copy")

        async def settle() -> tuple[Held, int]:
            await replays.close(warehouse, replay, by, session.batch_id)
            await warehouse.execute(f"drop table {target.assessed}")
            return Held(KeySet(staged), KeySet(kept_back)), 0

        state = await ledger.read_cursor(warehouse, source.name, table.name)
        counts = await check_and_publish(
            address,
            session,
            Staged(
                load=Merge() if replay.keys else Append(),
                shape=replay.shape,
                keys=replay.keys,
                window=Window(next=state),
                first=False,
                rows_read=session.rows_read,
                received_bytes=0,
                extracted_at=extracted_at,
                cursor=replay.checks.cursor,
                cursor_required=replay.checks.cursor_required,
                rules=replay.checks.rules,
                tolerance=Tolerance(1.0),
                unique_at_source=True,
                moves_cursor=False,
                tombstones=bool(replay.keys) and replay.checks.tombstone != "false",
                replays=True,
                kept_back=kept_back,
                settle=settle,
            ),
        )
        plan = LoadPlan(source.name, table.name, STRATEGY, "rows of quarantine")
        return Replayed(target.where, outcomes, session.result(plan, counts, table))
