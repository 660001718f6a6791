"""The API's count of a list against the records that were read, when the list has ended.

A list changes while it is read. A record that is added between the last page and the count is counted and was not read:
it would pass for missing, and the next load would read the full list again. So if the count and the records differ, the
ends of the list are read once more, and no more records are taken than were counted. Both sides are then as of the
count, whatever is added after it. A list that is really cut has nothing more at its ends, and still lacks records.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from flows.declare import Replace
from flows.kinds.api import PageNumber, Since
from flows.kinds.api.gathering import ListGathering
from flows.kinds.api.pages.endpoint import count_records, open_reader
from flows.kinds.api.pages.page import Start
from flows.kinds.api.shape import shape_of
from flows.landing.records import Records
from flows.landing.table import Target, create_landing
from flows.publish import raw_rows
from flows.quality import open_rows
from flows.values.errors import MedallionError
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import column_list

# A round is a count and a look. A record that is added and deleted again in between needs a second one.
_MOST_ROUNDS = 3
# A list with the newest records first grows at its beginning all the time that it is read.
_MOST_PAGES = 100
# The last page may be full, so that what came since is on the next one.
_MOST_IDLE = 2


@dataclass(frozen=True, slots=True)
class _Look:
    """Where a look begins; `newest_first`: further records are newer than those before them, or older."""

    start: Start
    newest_first: bool = False


@dataclass(slots=True)
class ListCount:
    """The count of a list that has been read to its end, and the records that came in between.

    `renews`: raw's rows are removed when this is published.
    """

    gathering: ListGathering
    renews: bool = False

    async def total(self) -> int | None:
        """How many records the list has, if possible at a time at which those that were read are all of it.

        None if the API has no count. One request if it agrees with the pages; otherwise at most three counts, each
        with a look at the ends of the list. New records there have landed, as many as were counted.

        Raises:
            MedallionError: the API failed. What was read is kept.
        """
        run, gathering = self.gathering.run, self.gathering
        total: int | None = None
        for _ in range(_MOST_ROUNDS):
            before = total
            with gathering.session.reading():
                total = await count_records(run.source, run.table, run.origin.connection, limits=run.origin.limits)
            gathered = gathering.gathered
            was_the_same = {total} == {gathered.least_total, gathered.most_total}
            if total is None or was_the_same or not self._may_look:
                return total
            held = await self._held()
            if total < held == gathered.total:
                return held  # so it was on the last page, and the others have been deleted since
            if total <= held or total == before:
                return total
            if await self._look(total - held) == total - held:
                return total
        return total

    async def moved(self, total: int | None) -> int:
        """How many records of a replaced list the API counts and the pages lack, since they moved between pages.

        Only page numbers are read without an overlap. The records would be deleted, and come back with the next load.
        """
        gathering, endpoint = self.gathering, self.gathering.endpoint
        paged = isinstance(gathering.run.source.pagination_of(endpoint), PageNumber) and gathering.gathered.pages > 1
        if total is None or not paged or not isinstance(endpoint.load, Replace):
            return 0
        return max(0, total - await self._landed())

    @property
    def _may_look(self) -> bool:
        """Not if the list lacks what is declared to be left out, or if its reading cannot be repeated in part."""
        endpoint, gathered = self.gathering.endpoint, self.gathering.gathered
        is_paged = endpoint.job is None and endpoint.format is None and bool(endpoint.keys)
        return is_paged and not (gathered.ignored or gathered.skipped)

    @property
    def _replaces(self) -> bool:
        """Whether raw will have what has landed, and nothing else."""
        gathering = self.gathering
        return (
            self.renews
            or gathering.first
            or (isinstance(gathering.endpoint.load, Replace) and not gathering.gathered.unproven)
        )

    @property
    def _known(self) -> str:
        return " and ".join(f"l.{quote_identifier(key)} is not null" for key in self.gathering.endpoint.keys)

    @property
    def _lives(self) -> str:
        return "true" if self.gathering.endpoint.deleted is None else "l._deleted_at is null"

    async def _landed(self) -> int:
        """How many of the source's records have landed; those without a key count each."""
        names, session = column_list(self.gathering.endpoint.keys), self.gathering.session
        found = await session.warehouse.fetchval(
            f"select count(distinct ({names})) filter (where {self._known}) "
            f"+ count(*) filter (where not ({self._known})) from {session.target.landing} as l where {self._lives}"
        )
        return int(found) + self.gathering.gathered.unreadable

    async def _held(self) -> int:
        """How many of the source's records raw and quarantine will have."""
        if self._replaces:
            return await self._landed()
        gathering, target = self.gathering, self.gathering.session.target
        warehouse, keys = gathering.session.warehouse, gathering.endpoint.keys
        names = column_list(keys)
        known, lives = self._known, self._lives
        types = {field.name: field.type for field in gathering.endpoint.key_fields}
        same = " and ".join(f"r.{quote_identifier(key)} = l.{quote_identifier(key)}" for key in keys)
        new = await warehouse.fetchval(
            f"select count(distinct ({names})) from {target.landing} as l where {lives} and {known} "
            f"and not exists (select from {target.raw} as r where r._deleted_at is null and {same})"
        )
        # Their rows may have come again, and be good or still broken now.
        quoted = ", ".join(f"(q.row_key ->> {quote_literal(key)})::{kind}" for key, kind in types.items())
        aside = await open_rows.key_set_not_in_raw(
            warehouse,
            target.raw,
            types,
            table=target.name,
            within=f"(({quoted}) in (select {names} from {target.landing})) is not true",
            newest=gathering.endpoint.on_duplicate == "newest",
        )
        return await raw_rows.count_live(warehouse, target, "true") + int(new) + aside.rows

    async def _look(self, lacking: int) -> int:
        """Read the list's ends once more, and land its new records, `lacking` at most. Returns how many."""
        run, found = self.gathering.run, 0
        async with open_reader(run.source, run.table, run.origin.connection, limits=run.origin.limits) as reader:
            for look in self._looks():
                idle = number = 0
                async with contextlib.aclosing(reader.pages(look.start, side_by_side=False)) as pages:
                    while found < lacking and idle < _MOST_IDLE and number < _MOST_PAGES:
                        try:
                            with self.gathering.session.reading():
                                page = await anext(pages, None)
                        except MedallionError as problem:
                            if problem.retryable:
                                raise
                            break  # no more is known than before
                        if page is None:
                            break
                        self.gathering.run.spend(len(page.records), page.received_bytes, requests=1)
                        new = await self._land(page.records, lacking - found, newest_first=look.newest_first)
                        found, number = found + new, number + 1
                        idle = 0 if new else idle + 1 + look.newest_first
        return found

    def _looks(self) -> Iterator[_Look]:
        """What changed since the first page, if the API can be asked for it; else both ends of the list."""
        gathering, cursor = self.gathering, self.gathering.endpoint.cursor
        ceiling = gathering.known.ceiling
        if isinstance(cursor, Since) and cursor.is_time and cursor.parameter and ceiling is not None:
            yield _Look(Start(cursor.lower(cursor.at(datetime.fromisoformat(ceiling)))))
        if gathering.endpoint.is_divided:
            return
        if gathering.gathered.last is not None:
            yield _Look(Start(gathering.since, gathering.gathered.last))
        yield _Look(Start(gathering.since), newest_first=True)

    async def _land(self, records: Sequence[bytes], most: int, *, newest_first: bool) -> int:
        """Land those of the records whose keys are new, `most` at most: the oldest of them. Returns how many.

        A record that jsonb cannot hold, or with fields that are not accepted, waits for the next load.
        """
        gathering, known = self.gathering, self.gathering.known
        warehouse, target = gathering.session.warehouse, gathering.session.target
        beside = Target(target.source, f"{target.table} beside", target.raw_schema)  # no table has such a name
        keys = gathering.endpoint.keys
        try:
            async with warehouse.transaction():
                await create_landing(warehouse, beside, shape_of(gathering.endpoint), first=False, bare=True)
                async with contextlib.aclosing(_once(gathering.acceptable(records))) as page:
                    await gathering.landing.land(page, beside)
                names = column_list(shape_of(gathering.endpoint).names)
                is_new = [f"n.{quote_identifier(key)} is not null" for key in keys]
                is_new += [] if gathering.endpoint.deleted is None else ["n._deleted_at is null"]
                for relation, condition in (
                    (target.landing, "true"),
                    (beside.landing, "o.ctid < n.ctid"),
                    *(() if self._replaces else ((target.raw, "o._deleted_at is null"),)),
                ):
                    same = " and ".join(f"o.{quote_identifier(key)} = n.{quote_identifier(key)}" for key in keys)
                    is_new.append(f"not exists (select from {relation} as o where {condition} and {same})")
                order = "desc" if newest_first else ""
                status = await warehouse.execute(
                    f"insert into {target.landing} ({names}) select {names} from {beside.landing} as n "
                    f"where {' and '.join(is_new)} order by n.ctid {order} limit {most}"
                )
                landed = int(status.split()[-1])
                await warehouse.execute(f"drop table {beside.landing}")
                gathered = gathering.gathered
                gathered = replace(gathered, rows=gathered.rows + landed, learned=gathering.fields.facts())
                gathering.known = replace(known, gathered=gathered)
                await gathering.landing.note(gathering.known)
        except BaseException:
            gathering.known = known
            raise
        return landed


async def _once(records: Sequence[bytes]) -> AsyncGenerator[Records, None]:
    yield Records(records)
