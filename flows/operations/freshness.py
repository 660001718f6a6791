"""Freshness of tables and models by four clocks.

    load       when the last load ended that read all it should; one without rows counts
    event      the newest value of a declared column of raw
    pipeline   rows of a table that gold was not built from yet; for a model, its last build
    deadline   whether a load or build ended in time for the last deadline

A table that was never loaded is measured from the beginning of its first load on; before, nothing is expected of it. If
others of its source are loaded, and it is not, it is measured from when it was first seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.deadline import Calendar, Deadline
from flows.declare.freshness import Freshness, limit
from flows.declare.promises import broken_at, freshness_of, limits_of
from flows.declare.source import Loadable, Source
from flows.kinds.answers import EventTime
from flows.kinds.registry import kind_of
from flows.models.manifest import Manifest
from flows.models.promises import ModelPromise, promise_of
from flows.operations.events import Events, Newest
from flows.sources import SOURCES
from flows.sources.calendars import CALENDARS
from flows.state import dbt_manifests
from flows.state.freshness import BuildTimes, TableTimes, build_times, table_times
from flows.values.errors import DeclarationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: States of a clock.
FRESH, LATE, MISSED, UNKNOWN, NOT_DUE, NO_PROMISE = "fresh", "late", "missed", "unknown", "not due", ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock of a table or model: what it shows (`at`), what is promised, and whether that is kept.

    `late_since`: since when a promise is broken. `schedule` is that of the source. `next_deadline` is that after now,
    `expected` the missed one. `problem`, `fix`: why the state is unknown.
    """

    subject: str
    clock: str
    state: str
    late_since: datetime | None = None
    at: datetime | None = None
    promised: str = ""
    within: timedelta | None = None
    schedule: str | None = None
    source: str | None = None
    table: str | None = None
    deadline: Deadline | None = None
    expected: datetime | None = None
    next_deadline: datetime | None = None
    known_since: datetime | None = None
    critical: bool = False
    owner: str | None = None
    problem: str | None = None
    fix: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether a promise is broken now."""
        return self.state in (LATE, MISSED)


@dataclass(slots=True)
class Clocks:
    """Reads the clocks, and remembers what only a load or build changes: one per process.

    `sources` and `calendars` are the declared ones; others are for tests.
    """

    sources: Sequence[Source] = SOURCES
    calendars: Sequence[Calendar] = CALENDARS
    _events: Events = field(default_factory=Events, init=False)
    _seen: dict[tuple[str, str], datetime] = field(default_factory=dict, init=False)
    _models: tuple[object, list[tuple[str, ModelPromise | DeclarationError]]] = field(default=(None, []), init=False)

    async def read(
        self, connection: Connection[Record], now: datetime, active: Collection[str] | None = None
    ) -> list[Reading]:
        """All clocks, those of tables first.

        `active` names the sources whose schedule is active here; None: all. Of the others nothing is expected; where
        none is active, nothing starts automatically, and nothing is expected of models and unscheduled sources either.
        """
        scheduled = {source.name for source in self.sources if source.schedule is not None}
        if active is not None and scheduled and not scheduled & set(active):
            return []
        paused = scheduled - set(scheduled if active is None else active)
        sources = [source for source in self.sources if source.name not in paused]
        tables = [(source, table, freshness_of(source, table)) for source in sources for table in source.tables]
        asked = [
            (source.name, table.name, bool(promise.event_within or promise.built_within))
            for source, table, promise in tables
        ]
        times = await table_times(connection, asked, now)
        readings: list[Reading] = []
        loaded = {name for (name, _), known in times.items() if known.known_since is not None}
        for source, table, promise in tables:
            key = (source.name, table.name)
            known = times.get(key, TableTimes())
            if known.known_since is None and source.name in loaded:
                known = replace(known, known_since=self._seen.setdefault(key, now))
            newest = None
            if promise.event_within is not None and (event := _event(source, table, promise)) is not None:
                newest = await self._events.newest(connection, source.raw_schema, table.name, event, known, now)
            readings += _of_table(source, table, known, newest, now)
        builds = await build_times(connection, now)
        for name, promised in await self._promised_models(connection):
            readings += _of_model(name, promised, builds, now)
        return readings

    async def _promised_models(
        self, connection: Connection[Record]
    ) -> list[tuple[str, ModelPromise | DeclarationError]]:
        """The models of the newest full build that promise something, or an error instead of the promise."""
        newest = await dbt_manifests.newest_build(connection)
        if newest is None:
            return []
        if self._models[0] != newest:
            try:
                manifest = Manifest.read(await dbt_manifests.read_manifest(connection, newest.run_id))
            except LookupError:  # a newer build has taken its place just now
                return self._models[1]
            self._models = (newest, [*_promises(manifest, self.calendars)])
        return self._models[1]


def _promises(
    manifest: Manifest, calendars: Sequence[Calendar]
) -> Iterator[tuple[str, ModelPromise | DeclarationError]]:
    for relation in manifest.relations.values():
        if relation.kind != "model":
            continue
        try:
            promised = promise_of(relation.meta, calendars, relation.path)
        except DeclarationError as problem:
            yield relation.address, problem
            continue
        if promised is not None:
            yield relation.address, promised


def _event(source: Source, table: Loadable, promise: Freshness) -> EventTime | None:
    of_cursor = kind_of(source).event_time(table)
    if promise.event is None or (of_cursor is not None and of_cursor.column == promise.event):
        return of_cursor
    return EventTime(promise.event)


def _of_table(
    source: Source, table: Loadable, times: TableTimes, newest: Newest | None, now: datetime
) -> Iterator[Reading]:
    promise, limits = freshness_of(source, table), limits_of(source, table)
    within = None if limits is None else limits.warn
    load = Reading(
        f"{source.name}.{table.name}",
        "load",
        *_state_since(times.known_since, times.loaded_at, within, now, source.schedule),
        at=times.loaded_at,
        promised=promise.loaded_within or (_words(within) if within is not None else ""),
        within=within,
        schedule=source.schedule,
        source=source.name,
        table=table.name,
        known_since=times.known_since,
    )
    yield load
    if (within := limit(promise.event_within)) is not None and newest is not None:
        # No event at all: what an empty table means, its gate says.
        state, since = _state(newest.at, within, now)
        yield replace(
            load,
            clock="event",
            state=state if newest.problem is None else UNKNOWN,
            late_since=since,
            at=newest.at,
            promised=promise.event_within or "",
            within=within,
            problem=newest.problem,
            fix=newest.fix,
        )
    if (within := limit(promise.built_within)) is not None:
        state, since = _state(times.unbuilt_since, within, now)
        yield replace(
            load,
            clock="pipeline",
            state=FRESH if times.unbuilt_since is None and times.loaded_at is not None else state,
            late_since=since,
            at=times.unbuilt_since,
            promised=promise.built_within or "",
            within=within,
        )
    if promise.expected_by is not None:
        yield _due(replace(load, critical=promise.critical), promise.expected_by, now)


def _of_model(
    name: str, promise: ModelPromise | DeclarationError, builds: BuildTimes, now: datetime
) -> Iterator[Reading]:
    if isinstance(promise, DeclarationError):
        yield Reading(name, "pipeline", UNKNOWN, problem=f"{promise.where}: {promise.what}", fix=promise.fix)
        return
    within = promise.built_within
    build = Reading(
        name,
        "pipeline",
        *_state_since(builds.known_since, builds.built_at, within, now),
        at=builds.built_at,
        promised=_words(within) if within is not None else "",
        within=within,
        known_since=builds.known_since,
        critical=promise.critical,
        owner=promise.owner,
    )
    if within is not None:
        yield build
    if promise.expected_by is not None:
        yield _due(build, promise.expected_by, now)


def _state_since(
    known_since: datetime | None,
    at: datetime | None,
    within: timedelta | None,
    now: datetime,
    schedule: str | None = None,
) -> tuple[str, datetime | None]:
    """As `_state`; what has not been done yet is not due, until the limit is exceeded since it was known."""
    state, since = _state(at or known_since, within, now, schedule)
    return (NOT_DUE if at is None and state == FRESH else state), since


def _state(
    at: datetime | None, within: timedelta | None, now: datetime, schedule: str | None = None
) -> tuple[str, datetime | None]:
    """The state of a clock that shows this time, and since when a promise is broken."""
    if within is None:
        return NO_PROMISE, None
    if at is None:
        return NOT_DUE, None
    # A time in the future is that of a clock that was set back.
    broken = broken_at(at, within, schedule)
    return (LATE, broken) if now > broken else (FRESH, None)


def _due(reading: Reading, deadline: Deadline, now: datetime) -> Reading:
    """The state of the last deadline, for what ended at `reading.at`: missed until something ends, if late."""
    last, done_at, known_since = deadline.last(now), reading.at, reading.known_since
    if last is None or known_since is None or known_since > last:
        state, missed = NOT_DUE, None
    elif done_at is not None and done_at > deadline.opens_at(last):
        state, missed = FRESH, None
    else:
        state, missed = MISSED, last
    return replace(
        reading,
        clock="deadline",
        state=state,
        late_since=missed,
        expected=missed,
        promised=str(deadline),
        within=None,
        deadline=deadline,
        next_deadline=deadline.next(now),
    )


def _words(duration: timedelta) -> str:
    """`36 h`, `90 min`, `3 days`."""
    minutes = int(duration.total_seconds() // 60)
    if minutes % 1440 == 0 and minutes >= 2880:
        return f"{minutes // 1440} days"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
