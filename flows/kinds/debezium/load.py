"""One load of a table of events: files are read, changes are folded in the order of their offsets, and published.

Each commit has some ten thousand changes, ends with a transaction of the source if it can, and stores the position that
it reached: rows and position are never apart. Files count as read with the last commit; until then they are read again,
and what was committed is skipped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Merge
from flows.kinds.debezium.declared import Debezium, EventTable
from flows.kinds.debezium.envelope import Event, Reader, Unread, line_of
from flows.kinds.debezium.fold import Fold, Kinds, kinds_of, refuse_truncate
from flows.kinds.debezium.inbox import Arrived, Inbox
from flows.kinds.debezium.plan import EventsPlan
from flows.kinds.debezium.position import Position
from flows.kinds.debezium.shape import shape_of
from flows.kinds.debezium.stage import Stage
from flows.kinds.files.left import in_words
from flows.kinds.files.state import forget_files, save_files
from flows.landing.table import Stamp, ensure_types, raw_columns
from flows.publish.evolution import changes_since, described_changes
from flows.publish.identity import joined
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.quality.quarantine import Unreadable
from flows.values.plan import LoadCounts, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A commit ends after so many changes, or so many bytes of events, with the transaction under way.
CHANGES, BYTES = 50_000, 64_000_000
# Of a transaction that is larger: memory is bounded before transactions are kept together.
_AT_MOST = 4


@dataclass(slots=True)
class _Commit:
    """The changes of one commit, and the position after it."""

    fold: Fold
    last: bool = False
    unreadable: list[Unreadable] = field(default_factory=list)
    received: int = 0


async def carry_out(run: LoadRun[Debezium, EventTable], planned: EventsPlan) -> Loaded:
    """Read the pending files, and publish their changes."""
    position = planned.position
    inbox = Inbox(run.warehouse, run.target, run.source, run.table, position, planned.listed)
    await inbox.fill(run.origin, planned.pending)
    run.session.pass_failpoint("after_landing_created")
    known = {number for number, part in position.partitions.items() if part.ranges}
    kinds = kinds_of(run.table, run.source, planned.raw)
    loading = _Loading(run, planned, inbox, sorted(known | {*await inbox.partitions()}), kinds)
    warnings = [in_words([*planned.left, *inbox.left])]
    async with aclosing(loading.commits()) as commits:
        async for commit in commits:
            if loading.chunks:
                await run.next_batch(planned.plan)
            await loading.publish(commit)
    await inbox.drop()
    warnings += loading.warnings
    plan = replace(planned.plan, upper=position.text, warning=joined(*warnings))
    return Loaded(plan, run.published, tuple(loading.changed), max(1, loading.chunks))


@dataclass(slots=True)
class _Loading:
    """A load under way."""

    run: LoadRun[Debezium, EventTable]
    planned: EventsPlan
    inbox: Inbox
    partitions: list[int]
    kinds: Kinds
    chunks: int = 0
    changed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _file: dict[int, int] = field(default_factory=dict)
    _last: dict[int, Arrived] = field(default_factory=dict)
    _unread: int = 0

    @property
    def position(self) -> Position:
        """What was read so far, with the commit under way."""
        return self.planned.position

    async def commits(self) -> AsyncGenerator[_Commit, None]:
        """The changes, divided into commits; at least one, which may have none."""
        reader, commit, done = Reader(), self._begin(), 0
        commit.unreadable += self.inbox.unreadable
        before: str | int | None = None
        async with aclosing(self.inbox.each()) as arrived:
            async for one in arrived:
                event = self._event(reader, one, commit)
                if self._is_full(commit, event, before):
                    yield commit
                    commit = self._begin(commit)
                if event is not None:
                    before = event.commit
                    self._fold(commit, event, one)
                self._note(one)
                commit.received += len(one.event)
                done += 1
        commit.last = True
        yield commit

    def _begin(self, before: _Commit | None = None) -> _Commit:
        if before is not None:
            return _Commit(Fold(self.run.table, self.kinds, unwritten=dict(before.fold.unwritten)))
        unwritten = {number: part.unwritten for number, part in self.position.partitions.items()}
        return _Commit(Fold(self.run.table, self.kinds, unwritten=unwritten))

    def _event(self, reader: Reader, one: Arrived, commit: _Commit) -> Event | None:
        try:
            return reader.event(line_of(one.event))
        except Unread as problem:
            commit.unreadable.append(Unreadable(problem.rule, one.event.decode()))
            return None

    @staticmethod
    def _is_full(commit: _Commit, event: Event | None, before: str | int | None) -> bool:
        if event is not None and commit.fold.follows(event):
            return False
        size = max(commit.fold.changes / CHANGES, commit.received / BYTES)
        within = event is not None and event.commit is not None and event.commit == before
        return size >= (_AT_MOST if within else 1)

    def _fold(self, commit: _Commit, event: Event, one: Arrived) -> None:
        if event.op == "t":
            refuse_truncate(self.partitions, self.run.target.where)
        try:
            commit.fold.add(event)
        except Unread as problem:
            text = one.event.decode()
            commit.unreadable.append(Unreadable(problem.rule, text, commit.fold.key_of(event)))

    def _note(self, one: Arrived) -> None:
        """The position after the event. A gap between two files may be filled by a file that comes late."""
        part = self.position.of(one.partition)
        within = self._file.get(one.partition) == one.file
        if part.ranges and not within and one.offset > part.next:
            self.warnings.append(
                f"offsets {part.next:,} to {one.offset - 1:,} of partition {one.partition} are in no file"
            )
        if not part.ranges or one.offset >= part.next:
            if not part.marks:
                part.mark(one.offset, one.mark)
            self._last[one.partition] = one
            part.read(one.offset, one.offset, follows=within)
        self._file[one.partition] = one.file

    async def publish(self, commit: _Commit) -> LoadCounts:
        """One commit: its rows, and the position after them."""
        run, table = self.run, self.run.table
        raw = await raw_columns(run.warehouse, run.target)
        shape = shape_of(table, commit.fold.types, raw, run.target.where)
        await ensure_types(run.warehouse, run.target, shape)
        changes = await changes_since(run.warehouse, run.target, shape, raw)
        stage = Stage(run.warehouse, run.target, shape, table.keys, raw)
        stamp = Stamp(datetime.now(UTC).isoformat(), run.session.batch_id)
        commit.unreadable += await stage.land(commit.fold, stamp)
        self._unread += len(commit.unreadable)
        if self.planned.rereads:
            await self._compare_with_raw(stage, commit)
        landed = await run.warehouse.fetchval(f"select count(*) from {run.target.landing}")
        run.session.rows_read = landed + len(commit.unreadable)
        following = self._reached(commit).state()
        part = Staged(
            load=Merge(),
            shape=shape,
            keys=table.keys,
            window=Window(lower=self.planned.plan.lower, upper=following.value, next=following),
            first=raw is None,
            rows_read=run.session.rows_read,
            received_bytes=commit.received,
            extracted_at=stamp.extracted_at,
            rules=table.rules,
            tolerance=table.tolerance,
            changes=tuple(changes),
            unreadable=tuple(commit.unreadable),
            gone=None if raw is None else stage.gone,
            more_follow=not commit.last,
            on_duplicate=table.on_duplicate,
        )

        async def note(warehouse: Connection[Record], batch_id: int) -> None:
            if self.planned.raw is None and not self.chunks:
                await forget_files(warehouse, run.target.name)
            if commit.last:
                await save_files(warehouse, run.target.name, self.inbox.taken, batch_id, replaces=True)

        counts = await run.publish(part, note)
        self.chunks += 1
        self.changed += described_changes(tuple(changes), ())
        if commit.last:
            await stage.drop()
        return counts

    def _reached(self, commit: _Commit) -> Position:
        """The position after the commit."""
        for number, unwritten in commit.fold.unwritten.items():
            self.position.of(number).unwritten = unwritten
        for number, one in self._last.items():
            part = self.position.of(number)
            part.mark(one.offset, one.mark)
            part.at = self.inbox.at.get(number, part.at)
        return self.position

    async def _compare_with_raw(self, stage: Stage, commit: _Commit) -> None:
        """Of a reload: rows of which no event is left are gone, if the files have all events that raw was made of."""
        await stage.note_seen(begins=not self.chunks)
        if not commit.last:
            return
        if (why := self._reaches_not_back()) is not None:
            self.warnings.append(f"rows of which there is no event are kept: {why}")
            return
        await stage.unseen_are_gone(self.run.table.max_deleted)

    def _reaches_not_back(self) -> str | None:
        if self._unread:
            return f"{self._unread:,} events cannot be read"
        before = self.planned.before
        if before is None:
            return "it is not known which events raw was made of"
        for number, part in before.partitions.items():
            now = self.position.partitions.get(number)
            if now is None or now.first is None or (part.first is not None and now.first > part.first):
                return f"the files do not reach back to offset {part.first} of partition {number}, where raw began"
        return None
