"""One load of a table of files: read, staged, and published with the state of its files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Append, Merge, Overwrite, Replace
from flows.kinds.files.declared import Files
from flows.kinds.files.doubtful import document
from flows.kinds.files.left import skipped, waiting
from flows.kinds.files.plan import FilesPlan
from flows.kinds.files.stage import RefusedByType, Staging, Taken
from flows.kinds.files.state import KnownFile, forget_files, save_files
from flows.kinds.files.table import FILE, FileTable
from flows.landing.table import LANDING_SCHEMA, Stamp, stamp_landing
from flows.publish.evolution import changes_since, described_changes
from flows.publish.identity import declared_masks
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged, WholeLists
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import CursorState, KeySet, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A table of fewer rows may lose most of them on an ordinary day.
_FEW_ROWS = 100


async def carry_out(run: LoadRun[Files, FileTable], planned: FilesPlan) -> Loaded:
    """Read the pending files, and publish the rows of those that are whole."""
    staging = await _staged_files(run, planned, careful=False)
    left = (*planned.left, *staging.left)
    gone = _really_gone(planned, staging.taken)
    _refuse_too_many_gone(run.table, planned, gone)
    part, lists = await _part(run, planned, staging, gone, skipped(left))
    states = [*(one.known for one in staging.taken), *(replace(one, state="vanished") for one in gone)]

    async def keep_state(warehouse: Connection[Record], batch_id: int) -> None:
        if planned.first:
            await forget_files(warehouse, run.target.name)
        await save_files(warehouse, run.target.name, states, batch_id, replaces=run.table.same_name == "replace")

    counts = await run.publish(part, keep_state)
    await staging.doubtful.drop()
    await run.warehouse.execute(f"drop table if exists {lists}")
    plan = replace(planned.plan, warning=waiting(left))
    return Loaded(plan, counts, described_changes(part.changes, ()))


async def _staged_files(run: LoadRun[Files, FileTable], planned: FilesPlan, *, careful: bool) -> Staging:
    staging = Staging(run, planned, run.origin, run.source.max_expansion, careful)
    await staging.begin()
    run.session.pass_failpoint("after_landing_created")
    try:
        await staging.read()
    except RefusedByType:
        if careful:
            raise
        return await _staged_files(run, planned, careful=True)
    return staging


async def _part(
    run: LoadRun[Files, FileTable], planned: FilesPlan, staging: Staging, gone: list[KnownFile], left_out: str | None
) -> tuple[Staged, str]:
    session, target, table = run.session, run.target, run.table
    extracted_at = datetime.now(UTC).isoformat()
    loaded = [one for one in staging.taken if one.known.state == "loaded" and _was_read(planned, one)]
    load = _way(planned, table, loaded)
    owned = not isinstance(load, Replace) and table.deletes
    shape = staging.shape(owned=owned)
    await staging.doubtful.land(shape)
    unreadable = (*await staging.doubtful.refused(table.keys), *_undivided(table, loaded))
    await stamp_landing(run.warehouse, target, Stamp(extracted_at, session.batch_id))
    lists, covered = await _note_files(run, planned, loaded, gone)
    if table.keys and len(loaded) > 1:
        await _keep_latest(run, lists)
    changes = await changes_since(run.warehouse, target, shape, dict(planned.raw) if planned.raw else None)
    landed = await run.warehouse.fetchval(f"select count(*) from {target.landing}")
    session.rows_read = landed + len(unreadable)
    # How many rows a skipped file has, nobody knows.
    total = None if left_out else _rows_now(planned, staging.taken, gone, table)
    part = Staged(
        load=load,
        shape=shape,
        keys=table.keys,
        window=Window(next=CursorState(identity={"masked": declared_masks(table)})),  # type: ignore[arg-type]
        first=planned.first,
        rows_read=session.rows_read,
        received_bytes=staging.received,
        extracted_at=extracted_at,
        rules=table.rules,
        tolerance=table.tolerance,
        changes=tuple(changes),
        unreadable=unreadable,
        source_keys=None if total is None else KeySet(total),
        on_duplicate=table.on_duplicate,
        skipped=left_out,
        lists=WholeLists(covered, FILE, documented=True) if covered and not isinstance(load, Replace) else None,
    )
    return part, lists


def _was_read(planned: FilesPlan, taken: Taken) -> bool:
    """Whether its rows landed: of a file that only was touched, raw has them."""
    before = planned.known.held.get(taken.known.digest)
    return planned.rereads or before is None


def _way(planned: FilesPlan, table: FileTable, loaded: list[Taken]) -> Replace | Append | Merge | Overwrite:
    if isinstance(table.load, Replace):
        return table.load if loaded else Append()
    replaces = any(one.known.path in planned.known.now for one in loaded)
    if table.keys and (planned.rereads or (replaces and table.same_name == "replace")):
        return Merge()  # an append skips existing rows, which new content corrects
    return table.load


async def _note_files(
    run: LoadRun[Files, FileTable], planned: FilesPlan, loaded: list[Taken], gone: list[KnownFile]
) -> tuple[str, str]:
    """A table of the files that landed, in order; and SQL for those whose other rows in raw are gone, if any are."""
    relation = qualified(LANDING_SCHEMA, f"{run.target.landing_name}__f")
    again = run.table.same_name == "replace" or planned.rereads
    paths = [one.known.path for one in loaded]
    covers = [again and (planned.rereads or path in planned.known.now) for path in paths]
    paths += [one.path for one in gone]
    covers += [True] * len(gone)
    await run.warehouse.execute(f"drop table if exists {relation}")
    await run.warehouse.execute(f"create unlogged table {relation} (path text, place int, covered boolean)")
    await run.warehouse.execute(
        f"insert into {relation} select * from unnest($1::text[], $2::int[], $3::boolean[])",
        paths,
        list(range(len(paths))),
        covers,
    )
    return relation, f"(select path as parent from {relation} where covered)" if any(covers) else ""


async def _keep_latest(run: LoadRun[Files, FileTable], files: str) -> None:
    """Of a key that several files of the load have, only the last file's rows are loaded."""
    landing, keys = run.target.landing, ", ".join(f"l.{quote_identifier(key)}" for key in run.table.keys)
    await run.warehouse.execute(
        f"with ranked as (select l.ctid as at, f.place < max(f.place) over (partition by {keys}) as is_older "
        f"from {landing} as l inner join {files} as f on l.{FILE} = f.path) "
        f"delete from {landing} as l using ranked as r where l.ctid = r.at and r.is_older "
        f"and {' and '.join(f'l.{quote_identifier(key)} is not null' for key in run.table.keys)}"
    )


def _undivided(table: FileTable, loaded: list[Taken]) -> list[Unreadable]:
    return [
        Unreadable(
            bad.rule,
            document(one.known.path, bad.line, None if table.masked else bad.text.replace("\0", "\\0")),
            is_document=True,
        )
        for one in loaded
        for bad in one.bad
    ]


def _really_gone(planned: FilesPlan, taken: list[Taken]) -> list[KnownFile]:
    """Those that were not found under another name."""
    found = {one.known.digest for one in taken}
    return [one for one in planned.gone if one.digest not in found]


def _refuse_too_many_gone(table: FileTable, planned: FilesPlan, gone: list[KnownFile]) -> None:
    deleted, held = sum(one.rows for one in gone), planned.known.rows
    if held >= _FEW_ROWS and deleted > held * table.max_deleted:
        raise DataRefused(
            f"{len(gone):,} files are gone, with {deleted:,} of {held:,} rows: more than the declared share of "
            f"{table.max_deleted:g}; nothing was published",
            where=planned.target.where,
            fix="check that the folder is mounted and complete; if the files are really gone, raise max_deleted for "
            "one run",
        )


def _rows_now(planned: FilesPlan, taken: list[Taken], gone: list[KnownFile], table: FileTable) -> int | None:
    """Rows of all contents that raw has after the load; None if rows of several files may have one key."""
    if isinstance(table.load, Replace):
        read = [one.known.rows for one in taken if _was_read(planned, one)]
        return read[-1] if read else None
    now = dict(planned.known.held) if not planned.first else {}
    if table.same_name == "replace":
        paths = {one.known.path: one.known.digest for one in taken}
        now = {digest: one for digest, one in now.items() if paths.get(one.path, digest) == digest}
    now |= {one.known.digest: one.known for one in taken if one.known.state == "loaded"}
    for one in gone:
        now.pop(one.digest, None)
    if table.keys and len(now) > 1:
        return None
    return sum(one.rows for one in now.values())
