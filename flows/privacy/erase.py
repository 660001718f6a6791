"""Erasure: find the subject's rows → check the source → delete in models and raw → search again → record it.

Every step is durable: after a kill the same command resumes, since deleted rows are not found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.access import addresses
from flows.declare.subject import Subject
from flows.failures.failpoints import pass_failpoint
from flows.privacy import record
from flows.privacy.elsewhere import Elsewhere
from flows.privacy.kept_log import keep_log
from flows.privacy.others import open_transactions
from flows.privacy.places import find_places
from flows.privacy.references import Traces
from flows.privacy.rows import Found, delete_rows
from flows.privacy.search import Remains
from flows.privacy.sides import Sides
from flows.privacy.statistics import refresh
from flows.privacy.traces import form_of_key, gather, read_key, with_values
from flows.sources import SOURCES
from flows.sources.subjects import SUBJECTS
from flows.state import ledger
from flows.state.transform_lock import transform_turn
from flows.values.errors import DataRefused, DeclarationError
from flows.values.settings import settings
from flows.verbs.preview import source_holds

# What is committed while rows are deleted is deleted in a second round; more of it would be a job that copies rows.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Erasure:
    """The subject's rows per table: found, deleted and left; and what could not be searched.

    `closed` are tables that no role of the platform may read. `busy` are sessions that were in a transaction all the
    time: what they have read and write later was not searched. `kept`: the log has a copy in the home, for a restore.
    """

    found: list[Found]
    deleted: list[Found]
    remains: list[Remains]
    closed: list[str]
    busy: int = 0
    kept: bool = True

    @property
    def left(self) -> list[Remains]:
        """What is left of the subject alone."""
        return [line for line in self.remains if not line.shared]

    @property
    def shared(self) -> list[Remains]:
        """Values of the subject in rows of others: a person decides about them."""
        return [line for line in self.remains if line.shared]

    @property
    def proven(self) -> bool:
        """Whether everything was searched, and nothing is left."""
        return not (self.left or self.closed or self.busy)


def find_subject(name: str) -> Subject:
    """The declared subject of that name.

    Raises:
        DeclarationError: it is not declared, or raw has hashes of its key.
    """
    for subject in SUBJECTS:
        if subject.name == name:
            _refuse_masked(subject)
            return subject
    raise DeclarationError(
        f"subject {name!r} is not declared",
        where="flows/sources/subjects.py",
        fix=f"use one of {', '.join(subject.name for subject in SUBJECTS)}, or declare it there",
    )


def _refuse_masked(subject: Subject) -> None:
    """A hash is not found by the value that a person is asked for, and the rows would seem to be none."""
    masked = [
        f"{source.name}.{table.name}"
        for source in SOURCES
        for table in source.tables
        if subject.key in getattr(table, "masked", ())
    ]
    if masked:
        raise DeclarationError(
            f"column {subject.key}, by which a {subject.name} is found, is masked in {', '.join(masked)}",
            where=f"subject {subject.name}",
            fix="name a key that is loaded as it is, or remove it from masked",
        )


async def plan_erasure(subject: Subject, key: str) -> Erasure:
    """What an erasure would delete. Changes nothing.

    Raises:
        DeclarationError: it is not a value of the key's type, or no table has it.
    """
    async with Sides.open() as sides:
        form = form_of_key(sides.seen, subject)
        traces = await gather(sides.opened, sides.seen, subject, read_key(key, form, subject), form)
        found, seen = await sides.count(subject, traces), await sides.search(subject, traces)
        if not found and not _are_of_key(seen):
            await _refuse_unknown(sides, subject, traces)
        deleted = {line.place.told for line in found}
        return Erasure(found, [], [line for line in seen if line.shared or line.place not in deleted], sides.closed)


async def erase(
    subject: Subject,
    key: str,
    *,
    despite_source: bool = False,
    elsewhere: Elsewhere | None = None,
    values: Sequence[str] = (),
) -> Erasure:
    """Delete a subject's rows everywhere in the warehouse, and verify that none is left; nor `elsewhere`, where nothing
    is deleted. `values` are searched for beside those that rows have: a second run finds none in rows.

    Raises:
        DeclarationError: it is not a value of the key's type, or no table has it and nobody with it was ever erased.
        DataRefused: the source still has the subject, so the next load would bring it back.
        ConfigurationError: the key for hashing erased subjects is not configured, or not that of earlier erasures.
        LoadLocked: models were being built during the full wait: a build that has already read the subject would
            write it into snapshots after the search.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion erase") as turn:
        await ledger.ensure_schema(turn)
        secret = await record.secret_of(turn)
        form = form_of_key([await find_places(turn)], subject)
        plain = read_key(key, form, subject)
        if not despite_source:
            await _refuse_while_source_holds(subject, plain)
        async with (
            transform_turn(turn, wait_seconds=settings().lock_wait_seconds, where=f"subject {subject.name}"),
            Sides.open() as sides,
        ):
            traces = with_values(await gather(sides.opened, sides.seen, subject, plain, form), values)
            return await _erase(sides, subject, traces, secret, elsewhere or Elsewhere())


async def _erase(sides: Sides, subject: Subject, traces: Traces, secret: bytes, elsewhere: Elsewhere) -> Erasure:
    key_hash = record.hash_key(secret, subject, traces.values[subject.key][0])
    found = await sides.count(subject, traces)
    if not found and not _are_of_key(await sides.search(subject, traces)):
        await _refuse_unknown(sides, subject, traces)
    async with sides.loader.transaction():
        await record.remember_secret(sides.loader, secret)
        # Of a killed erasure, those that it had found are in the log already.
        await record.write_links(sides.loader, secret, subject, key_hash, traces.values)
        counted = {line.place.told: line.rows for line in found}
        await record.write_event(sides.loader, subject, key_hash, "began", counted)
    await keep_log(sides.loader)  # before anything is deleted, too: a restore may come at any time
    former = {} if traces.words else await record.left_before(sides.loader, subject, key_hash)
    _die_at("erase_began")
    deleted: dict[str, Found] = {}
    left, busy = await _round(sides, subject, traces, key_hash, deleted), 0
    for _ in range(_ROUNDS):
        opened, busy = await open_transactions(sides.loader, wait_seconds=settings().lock_wait_seconds)
        if not opened:  # what was committed before the search was seen by it
            break
        await sides.look()
        first, left = left, await sides.search(subject, traces)
        if not {line for line in left if not line.shared} - set(first):
            break
        left = await _round(sides, subject, traces, key_hash, deleted)
    left += [*await sides.statistics(traces), *await elsewhere.search(subject, traces)]
    left += sides.not_searched_again(former, traces)
    await sides.vacuum(set(deleted) | await record.tables_of(sides.loader, subject, key_hash))
    erasure = Erasure(found, sorted(deleted.values(), key=lambda line: line.place.told), left, sides.closed, busy)
    counted = {f"{line.place}.{line.column}": line.rows for line in erasure.remains}
    await record.write_event(sides.loader, subject, key_hash, "finished" if erasure.proven else "incomplete", counted)
    kept = await keep_log(sides.loader)
    return replace(erasure, kept=kept)


async def _round(
    sides: Sides, subject: Subject, traces: Traces, key_hash: str, deleted: dict[str, Found]
) -> list[Remains]:
    """Delete what there is now, and search. Adds to `deleted`."""
    gone: list[Found] = []
    # Models are deleted first: as long as raw has the subject's keys and words, a killed erasure can find them again.
    # Raw is deleted together with a search, which needs the words once more.
    for connection, owned in reversed(sides.owned):
        is_last = connection is sides.loader
        async with connection.transaction():
            lines = await delete_rows(connection, owned, subject, traces)
            await refresh(connection, [*(line.place for line in lines), *(place for place in owned if place.derived)])
            gone += lines
            if is_last:
                counted = {line.place.told: line.rows for line in gone}
                await record.write_event(sides.loader, subject, key_hash, "deleted", counted)
                remains = await sides.search(subject, traces)
                if left := {f"{line.place}.{line.column}": line.rows for line in remains if not line.shared}:
                    await record.write_event(sides.loader, subject, key_hash, "incomplete", left)
                _die_at("erase_before_commit")
        if not is_last:
            _die_at("erase_between_roles")
    for line in gone:
        former = deleted.get(line.place.told)
        deleted[line.place.told] = Found(line.place, line.rows + (former.rows if former else 0))
    return remains


def _are_of_key(seen: list[Remains]) -> bool:
    return any(not line.shared for line in seen)


async def _refuse_unknown(sides: Sides, subject: Subject, traces: Traces) -> None:
    """Nobody was erased by a key that nobody ever had, which is most of all a mistyped one."""
    hashes = await record.known_hashes(sides.loader, subject)
    if hashes:
        secret = await record.secret_of(sides.loader)
        if record.hash_key(secret, subject, traces.values[subject.key][0]) in hashes:
            return
    raise DeclarationError(
        f"no table has a {subject.name} with this {subject.key}, and none with it was ever erased",
        where=f"subject {subject.name}",
        fix=f"check the {subject.key}; if a source has it under another name, declare its path in "
        f"flows/sources/subjects.py: `medallion erase --subject {subject.name} --paths` drafts it",
    )


async def _refuse_while_source_holds(subject: Subject, key: str) -> None:
    held = await source_holds(subject.home, subject.key, key)
    if held:
        raise DataRefused(
            f"{subject.home} still has this {subject.name}, so the next load would bring it back",
            where=f"subject {subject.name}",
            fix="erase it at the source first; or erase here with --despite-source: ingest then erases it again after "
            "each load that brings it back",
        )


def _die_at(step: str) -> None:
    pass_failpoint(step, settings().failpoint)
