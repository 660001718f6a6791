"""Check and publish: from staged rows to raw, with rows, quarantine, cursor, counts and status in one transaction."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg

from flows.declare import Overwrite, Replace
from flows.failures.diagnose import CONNECTION_LOST
from flows.landing.table import Stamp
from flows.publish import deletes, fixes, overwrite
from flows.publish.each_key_once import EachKeyOnce, refuse_short_landing
from flows.publish.identity import refuse_other_key
from flows.publish.reconciliation import Outcome, by_counts, count_limited, reconcile
from flows.publish.session import LoadSession, settle
from flows.publish.staged import Staged
from flows.publish.write_rows import write_rows
from flows.quality import open_rows, quarantine
from flows.quality.open_rows import stands_open
from flows.quality.profile import write_profile
from flows.quality.quarantine import WholeRows
from flows.quality.rules import Survey, door_rules, survey
from flows.state import compared, decisions, ledger, schema_changes
from flows.values.asking import current_asking
from flows.values.connection import DatabaseConnection
from flows.values.errors import WarehouseError
from flows.values.plan import LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_LOST = (*CONNECTION_LOST, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)


async def check_and_publish(
    address: DatabaseConnection,
    session: LoadSession,
    staged: Staged,
    note: Callable[[Connection[Record], int], Awaitable[None]] | None = None,
) -> LoadCounts:
    """Check the staged rows, then publish them in one transaction.

    `note` stores additional facts of the caller for the batch, in that transaction.

    Raises:
        DataRefused: too many rows break a rule, or too many were deleted at the source. Nothing was published.
        DeclarationError: raw was loaded with another key.
        WarehouseError: the commit failed, according to the ledger.
    """
    if staged.equals_raw:
        session.pass_failpoint("after_check")
        return await _commit(address, session, functools.partial(_publish_equal, session, staged), note)
    if not staged.is_landed:
        session.pass_failpoint("after_check")
        return await _commit(address, session, functools.partial(_publish_no_rows, session, staged), note)
    target = session.target
    rules = door_rules(staged.keys, staged.rules, staged.cursor if staged.cursor_required else None)
    # For a part of the table's rows, comparing keys is not possible.
    landed = await survey(session.warehouse, target.landing, rules, staged.keys if staged.whole or staged.first else ())
    refuse_short_landing(landed.all.rows, staged.rows_read - len(staged.unreadable) - staged.kept_back, target)
    if staged.whole:
        staged = replace(staged, source_keys=landed.all)
    if not staged.first:
        await refuse_other_key(session.warehouse, target, staged.keys)
    each_key_once = EachKeyOnce(session, staged, rules)
    await each_key_once.look(landed)
    if not each_key_once.is_broken:
        await each_key_once.judge(landed)
    session.pass_failpoint("after_check")
    if staged.first or staged.changes:
        staged = await staged.counted()  # nobody can read raw while its columns change
    publish = functools.partial(_publish, session, staged, each_key_once, landed)
    try:
        return await _commit(address, session, publish, note)
    except (asyncpg.UniqueViolationError, asyncpg.CardinalityViolationError):
        if not staged.keys or each_key_once.is_broken:  # raw has a key that is no longer declared
            raise
        each_key_once.is_broken = True
    # Not in the handler: PostgreSQL's error quotes the key, and would be the context of ours.
    return await _commit(address, session, publish, note)


async def _commit(
    address: DatabaseConnection,
    session: LoadSession,
    publish: Callable[[], Awaitable[LoadCounts]],
    note: Callable[[Connection[Record], int], Awaitable[None]] | None,
) -> LoadCounts:
    """Publish in one transaction; if the answer to its commit is lost, the ledger is asked."""
    try:
        async with session.warehouse.transaction():
            counts = await publish()
            if note is not None:
                await note(session.warehouse, session.batch_id)
            session.pass_failpoint("in_publish_before_commit")
    except _LOST as problem:
        if session.side == "source" or session.is_stretch:
            raise  # the ledger would tell of an earlier commit of the stretch; the stored position tells of this one
        settled = await settle(address, session)
        # used in that transaction, or still there
        if settled is not None and (asking := current_asking()) is not None:
            asking.forget_used()
        if settled is None:
            raise WarehouseError(
                f"the connection was lost while publishing ({type(problem).__name__}), and nothing was published",
                where=session.target.where,
                fix="the load is retried automatically, from the last commit",
                retryable=True,
            ) from None
        return settled
    if (asking := current_asking()) is not None:
        asking.forget_used()
    session.pass_failpoint("after_commit")
    return counts


async def _publish_equal(session: LoadSession, staged: Staged) -> LoadCounts:
    """Both ends have the same rows: only the load itself is recorded."""
    session.pass_failpoint("in_publish_before_rows")
    rows = staged.rows_read
    counts = LoadCounts(
        rows_read=rows,
        rows_unchanged=rows,
        source_rows=rows,
        raw_rows=rows,
        quarantine_rows=0,
        reconciliation="match",
    )
    session.pass_failpoint("in_publish_after_rows")
    await _record(session, staged, counts)
    return counts


async def _publish_no_rows(session: LoadSession, staged: Staged) -> LoadCounts:
    """No row came from the cursor on: both ends are compared, and deleted rows are marked."""
    session.pass_failpoint("in_publish_before_rows")
    session.pass_failpoint("in_publish_after_rows")
    staged = await staged.counted()
    found = await reconcile(session, staged, in_quarantine=False, in_raw=None, repeats=0)
    counts = _outcome(LoadCounts(bytes=staged.received_bytes), staged, found)
    await _record(session, staged, counts, found)
    return counts


def _outcome(counts: LoadCounts, staged: Staged, found: Outcome | None) -> LoadCounts:
    """The counts with what both ends have."""
    return replace(
        counts,
        rows_deleted=counts.rows_deleted + (found.deleted if found else 0),
        source_rows=staged.source_keys.rows if staged.source_keys else None,
        raw_rows=found.held.raw.rows if found else None,
        quarantine_rows=found.held.only_quarantined.rows if found else None,
        reconciliation=found.result if found else "incomplete",
        missing_rows=found.missing if found else None,
        extra_rows=found.extra if found else None,
        duplicate_rows=found.duplicate if found else None,
        skipped=staged.skipped,
    )


async def _publish(session: LoadSession, staged: Staged, each_key_once: EachKeyOnce, landed: Survey) -> LoadCounts:
    warehouse, target = session.warehouse, session.target
    name, newest = target.name, staged.on_duplicate == "newest"
    session.pass_failpoint("in_publish_before_rows")
    within = staged.quarantine_within
    if isinstance(staged.load, Overwrite) and not staged.first:
        await overwrite.refuse_shrunken_partition(
            warehouse, target, staged.shape, staged.keys, staged.load, staged.window.condition
        )
    told = staged.lists is not None and staged.lists.documented
    if staged.is_complete and (told or not staged.unreadable) and await open_rows.count_open(warehouse, table=name):
        # Everything was read, at least of the partitions: quarantined rows that were not read again are deleted.
        await quarantine.resolve_gone(
            warehouse,
            target.landing,
            staged.shape,
            staged.key_types,
            table=name,
            within=within,
            read=WholeRows(staged.unreadable if told else None),
        )
    repeats, quarantined, landed = await each_key_once.ensure(landed)
    if landed.broken:
        quarantined += await quarantine.move_broken(
            warehouse,
            target.landing,
            staged.shape,
            each_key_once.rules,
            staged.keys,
            table=name,
            batch_id=session.batch_id,
        )
    if staged.unreadable:
        quarantined += await quarantine.keep_unreadable(
            warehouse, staged.unreadable, staged.key_types, table=name, batch_id=session.batch_id
        )
    quarantined += staged.kept_back
    in_quarantine = bool(await open_rows.count_open(warehouse, table=name))
    put_back = 0
    if in_quarantine and not staged.replays:
        await fixes.give_way(session, staged)
        await quarantine.resolve(warehouse, target.landing, staged.shape, staged.key_types, table=name)
        put_back = await fixes.put_in_place(session, staged, each_key_once.rules) if quarantined else 0
        quarantined -= put_back

    good = staged.rows_read - quarantined - repeats
    if session.profiling is not None and not staged.limited:
        batch_id, profiling = session.batch_id, session.profiling
        await write_profile(warehouse, target.landing, staged.shape, staged.keys, good, batch_id, profiling)
    done = await write_rows(session, staged, good)
    session.pass_failpoint("in_publish_after_rows")
    staged = await staged.counted()
    vanished = 0
    if staged.gone is not None:
        stamp = Stamp(staged.extracted_at, session.batch_id)
        vanished = await deletes.mark_keys(warehouse, target, staged.keys, staged.gone, stamp)
    if staged.lists is not None and not staged.first and not staged.keys:
        lists = (staged.lists.relation, staged.lists.column)
        vanished = await deletes.drop_earlier(warehouse, target, lists, session.batch_id)
    elif staged.lists is not None and not staged.first:
        kept = stands_open(staged.key_types, "r", table=target.name, newest=newest)
        vanished = await deletes.mark_vanished(
            warehouse,
            target,
            staged.keys,
            (staged.lists.relation, staged.lists.column),
            Stamp(staged.extracted_at, session.batch_id),
            kept,
        )
    found: Outcome | None = None
    if staged.settle:
        held, deleted = await staged.settle()
        copies = quarantined and await open_rows.count_open_copies(warehouse, session.batch_id)
        found = Outcome(held, deleted, by_counts(staged.source_keys, held.all, copies, repeats))
    elif staged.limited:
        found = await count_limited(session, staged, in_quarantine=in_quarantine)
    elif not staged.more_follow:
        # The landing table has become raw, or is equal to it, except for quarantined rows; it has just been counted.
        # For a replace read in chunks its keys were not, and would seem to differ.
        equal = staged.whole and isinstance(staged.load, Replace) and not done.changed and not in_quarantine
        same = staged.first or equal
        in_raw = landed.good if same and not repeats and not staged.tombstones and not put_back else None
        found = await reconcile(session, staged, in_quarantine=in_quarantine, in_raw=in_raw, repeats=repeats)

    counts = LoadCounts(
        rows_read=staged.rows_read,
        rows_inserted=done.inserted,
        rows_updated=done.updated,
        rows_unchanged=done.unchanged,
        rows_deduplicated=repeats,
        rows_quarantined=quarantined,
        rows_deleted=done.deleted + vanished,
        bytes=staged.received_bytes,
    )
    counts = _outcome(counts, staged, found)
    if not staged.first:
        await warehouse.execute(f"drop table {target.landing}")
    await _record(session, staged, counts, found)
    return counts


async def _record(session: LoadSession, staged: Staged, counts: LoadCounts, found: Outcome | None = None) -> None:
    """Cursor, changes of columns, counts, and answers of people that were needed, in the publishing transaction."""
    warehouse, target = session.warehouse, session.target
    if (asking := current_asking()) is not None:
        await decisions.use(warehouse, asking.used, session.run_id, session.batch_id)
    if staged.moves_cursor:
        await ledger.save_cursor(warehouse, target.source, target.table, staged.window.next, session.batch_id)
    await schema_changes.record(
        warehouse,
        target.source,
        target.table,
        session.batch_id,
        [(change.column, change.change, change.old_type, change.new_type) for change in staged.changes],
    )
    told = counts if staged.before is None else counts.after(staged.before)
    await ledger.publish_load(warehouse, session.batch_id, told, (staged.window.lower, staged.window.upper))
    if found is not None and found.key_difference is not None:
        await compared.note_key_difference(warehouse, session.batch_id, found.key_difference)
