"""Check and publish: from staged rows to raw, with rows, quarantine, cursor, counts and status in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg

from flows.declare import Append, Merge, Overwrite, Replace, Rule
from flows.failures.diagnose import CONNECTION_LOST
from flows.landing.table import Stamp, adopt_landing, evolve
from flows.publish import deletes, overwrite, write
from flows.publish.identity import refuse_other_key
from flows.publish.session import LoadSession, settle
from flows.publish.staged import Held, Staged
from flows.quality import open_rows, quarantine
from flows.quality.open_rows import stands_open
from flows.quality.rules import Survey, door_rules, judge, survey
from flows.state import ledger, schema_changes
from flows.values.connection import DatabaseConnection
from flows.values.errors import WarehouseError
from flows.values.plan import KeySet, LoadCounts

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
    target = session.target
    rules = door_rules(staged.keys, staged.rules, staged.cursor if staged.cursor_required else None)
    # For a part of the table's rows, comparing keys is not possible.
    landed = await survey(session.warehouse, target.landing, rules, staged.keys if staged.whole or staged.first else ())
    if staged.whole:
        staged = replace(staged, source_keys=landed.all)
    broken = dict(landed.broken)
    for record in staged.unreadable:
        rule = "payload_readable" if record.rule.startswith("payload_") else record.rule
        broken[rule] = broken.get(rule, 0) + 1
    judge(
        broken,
        staged.rows_read,
        staged.tolerance,
        where=target.where,
        landing=target.landing,
        known=await _count_known(session, staged, rules) if broken else 0,
    )
    if not staged.first:
        await refuse_other_key(session.warehouse, target, staged.keys)
    session.pass_failpoint("after_check")
    try:
        async with session.warehouse.transaction():
            counts = await _publish(session, staged, rules if broken else (), landed)
            if note is not None:
                await note(session.warehouse, session.batch_id)
            session.pass_failpoint("in_publish_before_commit")
    except _LOST as problem:
        if session.side == "source":
            raise
        settled = await settle(address, session)
        if settled is None:
            raise WarehouseError(
                f"the connection was lost while publishing ({type(problem).__name__}), and nothing was published",
                where=target.where,
                fix="the load is retried automatically, from the last commit",
                retryable=True,
            ) from None
        return settled
    session.pass_failpoint("after_commit")
    return counts


async def _count_known(session: LoadSession, staged: Staged, rules: tuple[Rule, ...]) -> int:
    name = session.target.name
    known = await quarantine.count_known(
        session.warehouse, session.target.landing, staged.shape, rules, staged.keys, table=name
    )
    if staged.unreadable:
        known += await quarantine.count_known_unreadable(session.warehouse, staged.unreadable, staged.keys, table=name)
    return known


async def _publish(session: LoadSession, staged: Staged, rules: tuple[Rule, ...], landed: Survey) -> LoadCounts:
    warehouse, target = session.warehouse, session.target
    name = target.name
    session.pass_failpoint("in_publish_before_rows")
    within = staged.quarantine_within
    if isinstance(staged.load, Overwrite) and not staged.first:
        await overwrite.refuse_shrunken_partition(warehouse, target, staged.shape, staged.load, staged.window.condition)
    reads_all = staged.rereads or isinstance(staged.load, Replace | Overwrite) or staged.lists is not None
    if reads_all and not staged.unreadable and await open_rows.count_open(warehouse, table=name):
        # Everything was read, at least of the partitions: quarantined rows that were not read again are deleted.
        await quarantine.resolve_gone(
            warehouse, target.landing, staged.shape, staged.key_types, table=name, within=within
        )
    quarantined = 0
    if rules:
        quarantined = await quarantine.move_broken(
            warehouse, target.landing, staged.shape, rules, staged.keys, table=name, batch_id=session.batch_id
        )
    if staged.unreadable:
        quarantined += await quarantine.keep_unreadable(
            warehouse, staged.unreadable, staged.key_types, table=name, batch_id=session.batch_id
        )
    in_quarantine = await open_rows.count_open(warehouse, table=name)
    if in_quarantine:
        await quarantine.resolve(warehouse, target.landing, staged.shape, staged.key_types, table=name)

    done, repeats = await _write_each_key_once(session, staged, staged.rows_read - quarantined)
    session.pass_failpoint("in_publish_after_rows")
    held, deleted, vanished = None, 0, 0
    if staged.lists is not None and not staged.first:
        kept = stands_open(staged.key_types, "r", table=target.name)
        vanished = await deletes.mark_vanished(
            warehouse,
            target,
            staged.keys,
            (staged.lists.relation, staged.lists.column),
            Stamp(staged.extracted_at, session.batch_id),
            kept,
        )
    if staged.settle:
        held, deleted = await staged.settle()
    elif not staged.more_follow:
        # The landing table has become raw, or is equal to it, except for quarantined rows; it has just been counted.
        # For a replace read in chunks its keys were not, and would seem to differ.
        equal = staged.whole and isinstance(staged.load, Replace) and not done.changed and not in_quarantine
        same = staged.first or equal
        in_raw = landed.good if same and not repeats and not staged.tombstones else None
        held, deleted = await _reconcile(session, staged, bool(in_quarantine), in_raw)

    counts = LoadCounts(
        rows_read=staged.rows_read,
        rows_inserted=done.inserted,
        rows_updated=done.updated,
        rows_unchanged=done.unchanged,
        rows_deduplicated=repeats,
        rows_quarantined=quarantined,
        rows_deleted=done.deleted + vanished + deleted,
        bytes=staged.received_bytes,
        source_rows=staged.source_keys.rows if staged.source_keys else None,
        raw_rows=held.raw.rows if held else None,
        quarantine_rows=held.only_quarantined.rows if held else None,
        reconciliation=_verdict(staged.source_keys, held.all) if held else "incomplete",
    )
    if not staged.first:
        await warehouse.execute(f"drop table {target.landing}")
    if staged.moves_cursor:
        await ledger.save_cursor(warehouse, target.source, target.table, staged.window.next, session.batch_id)
    await schema_changes.record(
        warehouse,
        target.source,
        target.table,
        session.batch_id,
        [(change.column, change.change, change.old_type, change.new_type) for change in staged.changes],
    )
    await ledger.publish_load(warehouse, session.batch_id, counts, (staged.window.lower, staged.window.upper))
    return counts


async def _write_each_key_once(session: LoadSession, staged: Staged, rows: int) -> tuple[write.Published, int]:
    """Write the landing rows; returns the counts and the number of duplicate keys dropped first.

    Duplicates are searched only if PostgreSQL reports one: on 1.5 million rows that saves 1.8 s of 5.8. An append would
    silently skip them, so there they are searched beforehand.
    """
    warehouse, target = session.warehouse, session.target

    async def drop_repeats() -> int:
        return await write.drop_repeats(warehouse, target, staged.keys, staged.cursor)

    repeats = 0
    if isinstance(staged.load, Append) and staged.keys and not staged.first:
        repeats = await drop_repeats()
    try:
        async with warehouse.transaction():  # a savepoint
            return await _write_rows(session, staged, rows - repeats), repeats
    except (asyncpg.UniqueViolationError, asyncpg.CardinalityViolationError):
        if not staged.keys:  # raw has a key that is no longer declared
            raise
        repeats += await drop_repeats()
        return await _write_rows(session, staged, rows - repeats), repeats


async def _write_rows(session: LoadSession, staged: Staged, rows: int) -> write.Published:
    warehouse, target = session.warehouse, session.target
    if staged.first:
        await adopt_landing(warehouse, target, staged.keys)
        return write.Published(inserted=rows)
    await evolve(warehouse, target, list(staged.changes))
    match staged.load:
        case Replace(min_share=share):
            # Quarantined rows still exist at the source; a merge also keeps their last good version.
            kept = stands_open(staged.key_types, "r", table=target.name)
            return await write.replace(
                warehouse,
                target,
                staged.shape,
                staged.keys,
                write.ShrinkageLimit(staged.rows_read, share),
                write.Scope(kept=kept),
                tombstones=staged.tombstones,
            )
        case Overwrite() as load:
            kept = stands_open(staged.key_types, "r", table=target.name)
            within = staged.window.condition
            return await overwrite.overwrite(warehouse, target, staged.shape, staged.keys, load, within, kept)
        case Append():
            return await write.append(warehouse, target, staged.shape, staged.keys)
        case Merge():
            return await write.merge(warehouse, target, staged.shape, staged.keys, tombstones=staged.tombstones)


async def _reconcile(
    session: LoadSession, staged: Staged, in_quarantine: bool, in_raw: KeySet | None
) -> tuple[Held, int]:
    """Count the source's rows in raw and quarantine, after detecting deletes if declared.

    If key sets match, there are no deletes, so the source's keys are copied only if they do not. `in_raw` is raw's
    count, if known.
    """
    held = await _held(session, staged, in_quarantine, in_raw)
    if staged.stage_keys is None or staged.source_keys is None or held.all == staged.source_keys:
        return held, 0
    keys_relation = await staged.stage_keys()
    if in_quarantine:
        await quarantine.resolve_gone(
            session.warehouse, keys_relation, staged.shape, staged.key_types, table=session.target.name
        )
    deleted = await deletes.mark_deleted(
        session.warehouse,
        session.target,
        staged.keys,
        Stamp(staged.extracted_at, session.batch_id),
        max_share=staged.max_deleted,
    )
    return await _held(session, staged, in_quarantine), deleted


async def _held(session: LoadSession, staged: Staged, in_quarantine: bool, in_raw: KeySet | None = None) -> Held:
    target = session.target
    # Lists are a part of what is read, but all of raw is counted.
    within = "true" if staged.lists is not None else staged.quarantine_within
    # With partitions, a row counts in that of its newest version: raw may keep its last good one in another.
    in_parts = in_quarantine and bool(staged.keys) and within != "true"
    below = staged.window.below
    if in_parts:
        below = f"({below}) and not {stands_open(staged.key_types, target.raw, table=target.name)}"
    raw = in_raw or await write.key_set(session.warehouse, target, staged.keys, below)
    if staged.source_keys is not None and staged.source_keys.fingerprint is None:
        raw = replace(raw, fingerprint=None)
    if not in_quarantine:
        return Held(raw, KeySet(0, raw.fingerprint and Decimal(0)))
    only_quarantined = await open_rows.key_set_not_in_raw(
        session.warehouse,
        target.raw,
        staged.key_types,
        table=target.name,
        within=within,
        counted="false" if in_parts else "true",
    )
    return Held(raw, only_quarantined)


def _verdict(source: KeySet | None, held: KeySet) -> str:
    if source is None:
        return "not_compared"
    if source == held:
        return "match"
    return "extra" if held.rows > source.rows else "missing"
