"""What a load's result says: the source's rows against raw and quarantine, by counts and keys, before the commit.

Equal counts and equal fingerprints of the keys are a match. If they differ, the sign of the counts says nothing: rows
that only raw has may hide as many that it lacks. So the keys themselves are compared, if the kind can stage them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from flows.landing.table import Stamp
from flows.publish import deletes, write
from flows.publish.session import LoadSession
from flows.publish.staged import Held, Staged
from flows.quality import open_rows, quarantine
from flows.quality.open_rows import KEY_NOT_UNIQUE, same_key, stands_open
from flows.state import compared
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import KeySet
from flows.values.row_limit import LIMITED
from flows.values.shape import column_list


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was compared: rows held, rows marked as deleted, the result, and keys that differ, if they were compared."""

    held: Held
    deleted: int
    result: str
    missing: int | None = None
    extra: int | None = None
    duplicate: int | None = None
    key_difference: Decimal | None = None


async def reconcile(
    session: LoadSession, staged: Staged, *, in_quarantine: bool, in_raw: KeySet | None, repeats: int
) -> Outcome:
    """Compare the source's rows with those in raw and quarantine, after detecting deletes if declared.

    If key sets match, there are no deletes, so the source's keys are copied only if they do not. `in_raw` is raw's
    count, if known; `repeats` are rows that the read had twice.
    """
    source = staged.source_keys
    if source is not None and in_quarantine and not staged.keys:
        # What is quarantined has no key, so that only counts can be compared.
        source = replace(source, fingerprint=None)
        staged = replace(staged, source_keys=source, stage_keys=None)
    held, deleted = await _held(session, staged, in_quarantine, in_raw), 0
    copies = await _copies(session, staged) if in_quarantine else 0
    difference = _difference(source, held)
    if source is None or held.all == source or staged.stage_keys is None:
        return Outcome(held, 0, by_counts(source, held.all, copies, repeats), duplicate=copies or None)
    if not staged.marks_deleted and (known := await _as_before(session, source, held, difference)) is not None:
        return replace(known, held=held, key_difference=difference)
    relation = await staged.stage_keys()
    if staged.marks_deleted:
        if in_quarantine:
            await quarantine.resolve_gone(
                session.warehouse, relation, staged.shape, staged.key_types, table=session.target.name
            )
        deleted = await deletes.mark_deleted(
            session.warehouse,
            session.target,
            staged.keys,
            Stamp(staged.extracted_at, session.batch_id),
            max_share=staged.max_deleted,
        )
        held = await _held(session, staged, in_quarantine)
    if held.all == source:
        found = Outcome(held, deleted, by_counts(source, held.all, copies, repeats), duplicate=copies or None)
    else:
        missing, extra, duplicate = await _compare_keys(session, staged, relation)
        duplicate = max(duplicate, copies)
        result = "missing" if missing else "duplicate" if duplicate else "extra" if extra else "match"
        if result == "match" and source.rows != held.all.rows:
            result = by_counts(source, held.all)
        found = Outcome(held, deleted, result, missing, extra, duplicate, _difference(source, held))
    await session.warehouse.execute(f"drop table {relation}")
    return found


async def count_limited(session: LoadSession, staged: Staged, *, in_quarantine: bool) -> Outcome:
    """What raw and quarantine hold after a limited load. Nothing is compared, and nothing counts as deleted."""
    return Outcome(await _held(session, staged, in_quarantine), 0, LIMITED)


def by_counts(source: KeySet | None, held: KeySet, copies: int = 0, repeats: int = 0) -> str:
    """The result if only counts and fingerprints are known. `copies` in quarantine have a key that is not unique."""
    if source is None:
        return "duplicate" if copies else "not_compared"
    if source == held:
        return "duplicate" if copies else "match"
    if repeats and source.fingerprint is None and source.rows == held.rows + repeats:
        return "duplicate"  # the source counts the repeated rows as well
    return "extra" if held.rows > source.rows else "missing"


def _difference(source: KeySet | None, held: Held) -> Decimal | None:
    mark = held.all.fingerprint
    return None if source is None or source.fingerprint is None or mark is None else mark - source.fingerprint


async def _as_before(session: LoadSession, source: KeySet, held: Held, difference: Decimal | None) -> Outcome | None:
    """The last load's result, if nothing but what differed then differs now: its keys need not be compared again."""
    last = await compared.last_compared(session.warehouse, session.target.source, session.target.table)
    if last is None or difference is None or last.key_difference != difference:
        return None
    if last.lacking != source.rows - held.all.rows or last.result not in {"match", "extra", "duplicate"}:
        return None
    return Outcome(held, 0, last.result, last.missing, last.extra, last.duplicate)


async def _copies(session: LoadSession, staged: Staged) -> int:
    """Rows in quarantine whose key is not unique at the source."""
    within = f"q.rule = {quote_literal(KEY_NOT_UNIQUE)} and {_within(staged)}"
    return await open_rows.count_open(session.warehouse, table=session.target.name, within=within)


async def _compare_keys(session: LoadSession, staged: Staged, relation: str) -> tuple[int, int, int]:
    """Keys that only the source has, keys that only raw has, and source rows beyond the first of their key."""
    target, keys = session.target, staged.keys or staged.compared_by
    same = " and ".join(f"k.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    known = " and ".join(f"k.{quote_identifier(key)} is not null" for key in keys)
    distinct = f"(select distinct {column_list(keys)} from {relation}) as k"
    aside = (
        "false"
        if not staged.keys
        else (
            f"exists (select from quarantine.rows as q where q.source_system = {quote_literal(target.source)} "
            f"and q.table_name = {quote_literal(target.table)} and q.withheld "
            f"and {same_key(staged.key_types, 'k')})"
        )
    )
    row = await session.warehouse.fetchrow(
        f"select (select count(*) from {distinct} where {known} and not {aside} and not exists "
        f"(select from {target.raw} as r where r._deleted_at is null and {same})) as missing, "
        f"(select count(*) from {target.raw} as r where r._deleted_at is null and ({staged.window.below}) "
        f"and not {stands_open(staged.key_types, 'r', table=target.name)} "
        f"and not exists (select from {relation} as k where {same})) as extra, "
        f"(select count(*) from {relation} as k where {known}) - "
        f"(select count(*) from {distinct} where {known}) as duplicate"
    )
    assert row is not None  # an aggregate always answers one row
    return row["missing"], row["extra"], row["duplicate"] if staged.keys else 0


def _within(staged: Staged) -> str:
    # Lists are a part of what is read, but all of raw is counted.
    return "true" if staged.lists is not None else staged.quarantine_within


async def _held(session: LoadSession, staged: Staged, in_quarantine: bool, in_raw: KeySet | None = None) -> Held:
    target, newest = session.target, staged.on_duplicate == "newest"
    within = _within(staged)
    # With partitions, a row counts in that of its newest version: raw may keep its last good one in another.
    in_parts = in_quarantine and bool(staged.keys) and within != "true"
    below = staged.window.below
    if in_parts:
        below = f"({below}) and not {stands_open(staged.key_types, target.raw, table=target.name, newest=newest)}"
    raw = in_raw or await write.key_set(session.warehouse, target, staged.keys or staged.compared_by, below)
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
        newest=newest,
    )
    return Held(raw, only_quarantined)
