"""Erasure: find the subject's rows → check the source → delete in models and raw → search again → record it.

Every step is durable: after a kill the same command resumes, since deleted rows are not found again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from flows.access import addresses
from flows.access.erasure_key import erasure_key
from flows.declare.subject import Subject
from flows.failures.failpoints import pass_failpoint
from flows.privacy import record
from flows.privacy.places import QUARANTINE, Place, Traces, find_places
from flows.privacy.rows import Found, Remains, count_rows, delete_rows, search
from flows.privacy.traces import gather
from flows.sources import SOURCES
from flows.sources.subjects import SUBJECTS
from flows.state import ledger
from flows.state.transform_lock import transform_turn
from flows.values.errors import DataRefused, DeclarationError
from flows.values.settings import settings
from flows.verbs.preview import source_holds


@dataclass(frozen=True, slots=True)
class Erasure:
    """The subject's rows per table: found, deleted and left; and tables that could not be searched."""

    found: list[Found]
    deleted: list[Found]
    remains: list[Remains]
    closed: list[str]


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
    """What an erasure would delete. Changes nothing."""
    async with _Sides.open() as sides:
        traces = await gather(sides.opened, sides.seen, subject, key)
        found = await sides.count(traces)
        return Erasure(found, [], [], sides.closed)


async def erase(subject: Subject, key: str, *, despite_source: bool = False) -> Erasure:
    """Delete a subject's rows everywhere, and verify that none is left.

    Raises:
        DataRefused: the source still has the subject, so the next load would bring it back.
        ConfigurationError: the key for hashing erased subjects is not configured.
        LoadLocked: models were being built during the full wait: a build that has already read the subject would
            write it into snapshots after the search.
    """
    secret = erasure_key()
    key_hash = record.hash_key(secret, subject, key)
    if not despite_source:
        await _refuse_while_source_holds(subject, key)
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion erase") as turn:
        await ledger.ensure_schema(turn)
        async with (
            transform_turn(turn, wait_seconds=settings().lock_wait_seconds, where=f"subject {subject.name}"),
            _Sides.open() as sides,
        ):
            return await _erase(sides, subject, key, key_hash)


async def _erase(sides: _Sides, subject: Subject, key: str, key_hash: str) -> Erasure:
    traces = await gather(sides.opened, sides.seen, subject, key)
    found = await sides.count(traces)
    counted = {line.place.told: line.rows for line in found}
    await record.write_event(sides.loader, subject, key_hash, "began", counted)
    _die_at("erase_began")
    deleted: list[Found] = []
    # Models are deleted first: as long as raw has the subject's keys and words, a killed erasure can find them again.
    # Raw is deleted together with the final search, which needs the words once more.
    for connection, owned in sides.owned[1:]:
        async with connection.transaction():
            deleted += await delete_rows(connection, owned, subject, traces)
        _die_at("erase_between_roles")
    async with sides.loader.transaction():
        deleted += await delete_rows(sides.loader, sides.owned[0][1], subject, traces)
        counted = {line.place.told: line.rows for line in deleted}
        await record.write_event(sides.loader, subject, key_hash, "deleted", counted)
        remains = await sides.search(subject, traces)
        left = {f"{line.place}.{line.column}": line.rows for line in remains}
        proven = not remains and not sides.closed
        await record.write_event(sides.loader, subject, key_hash, "finished" if proven else "incomplete", left)
        _die_at("erase_before_commit")
    await sides.vacuum(deleted)
    return Erasure(found, deleted, remains, sides.closed)


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


@dataclass(slots=True)
class _Sides:
    """Both roles that own tables: the loader, and the transformer, if they differ."""

    opened: list[asyncpg.Connection[asyncpg.Record]]
    seen: list[list[Place]]
    owned: list[tuple[asyncpg.Connection[asyncpg.Record], list[Place]]]
    closed: list[str]

    @property
    def loader(self) -> asyncpg.Connection[asyncpg.Record]:
        return self.opened[0]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[_Sides]:
        async with (
            addresses.connect(addresses.warehouse(), side="warehouse", application="medallion erase") as loader,
            addresses.connect(
                addresses.warehouse("transformer"), side="warehouse", application="medallion erase"
            ) as transformer,
        ):
            opened, seen, owned, owners = [], [], [], set()
            for connection in (loader, transformer):
                role = await connection.fetchval("select current_user")
                if role in owners:
                    continue
                owners.add(role)
                places = await find_places(connection)
                opened.append(connection)
                seen.append(places)
                owned.append((connection, [place for place in places if place.owner == role]))
            # Tables of other owners cannot be deleted from, and tables that neither role may read cannot be searched.
            readable = {place.told for places in seen for place in places if place.readable}
            yield cls(opened, seen, owned, sorted({place.told for places in seen for place in places} - readable))

    async def count(self, traces: Traces) -> list[Found]:
        found: dict[str, Found] = {}
        for connection, places in zip(self.opened, self.seen, strict=True):
            for line in await count_rows(connection, places, traces):
                found.setdefault(line.place.told, line)
        return sorted(found.values(), key=lambda line: line.place.told)

    async def search(self, subject: Subject, traces: Traces) -> list[Remains]:
        found: list[Remains] = []
        looked: set[str] = set()
        # The loader first: only it sees the deletes of its own transaction.
        for connection, places in zip(self.opened, self.seen, strict=True):
            mine = [place for place in places if place.readable and place.told not in looked]
            found += await search(connection, mine, subject, traces)
            looked |= {place.told for place in mine}
        return sorted(found, key=lambda line: (line.place, line.column))

    async def vacuum(self, deleted: list[Found]) -> None:
        """Vacuum deleted rows from disk; only a table's owner may."""
        touched = {line.place.told for line in deleted}
        for connection, owned in self.owned:
            for place in owned:
                if place.told in touched:
                    await connection.execute(f"vacuum {place.relation}")


async def erase_returned_since_last_build() -> int:
    """Erase subjects again that reappeared since models were last built: by a load that died before its check, a
    backfill, a repair, a row released from quarantine, a restore. Returns how many.

    Raises:
        ConfigurationError: subjects were erased, and the key for hashing them is not configured.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        batches = await record.batches_since_last_build(loader)
    return sum([await erase_returned(source, numbers) for source, numbers in batches.items()])


async def erase_returned(source: str, batches: list[int]) -> int:
    """Erase subjects again that these batches of the source brought back. Returns how many.

    Without any erasure in the log it costs one query.

    Raises:
        ConfigurationError: subjects were erased, and the key for hashing them is not configured.
    """
    if not batches:
        return 0
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        returned = 0
        for subject in SUBJECTS:
            hashes = await record.known_hashes(loader, subject)
            if not hashes:
                continue
            secret = erasure_key()
            role = await loader.fetchval("select current_user")
            places = [place for place in await find_places(loader) if place.owner == role]
            keys: set[str] = set()
            for place in places:
                if place.schema == f"raw_{source}" or place.told == QUARANTINE:
                    keys |= await record.erased_keys(loader, place, subject, secret, hashes, batches)
            for key in sorted(keys):
                traces = await gather([loader], [places], subject, key)
                async with loader.transaction():
                    gone = await delete_rows(loader, places, subject, traces)
                    rows = {line.place.told: line.rows for line in gone}
                    await record.write_event(loader, subject, record.hash_key(secret, subject, key), "returned", rows)
            returned += len(keys)
    return returned
