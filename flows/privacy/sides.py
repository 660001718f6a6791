"""The roles that own tables: the loader, and the transformer, if they differ; and what each of them sees."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.subject import Subject
from flows.privacy.places import Place, find_documents, find_places
from flows.privacy.references import Traces
from flows.privacy.rows import Found, count_rows
from flows.privacy.search import Remains, search
from flows.privacy.statistics import refresh, refresh_found

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(slots=True)
class Sides:
    """Open connections of the roles. `seen` are the tables of the warehouse, per connection; `owned` the role's own.

    `closed` are tables that none of the roles may read.
    """

    opened: list[Connection[Record]]
    seen: list[list[Place]]
    owned: list[tuple[Connection[Record], list[Place]]]
    closed: list[str]

    @property
    def loader(self) -> Connection[Record]:
        """The owner of raw, quarantine and operations."""
        return self.opened[0]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Sides]:
        """Connect as both, and find the tables."""
        async with (
            addresses.connect(addresses.warehouse(), side="warehouse", application="medallion erase") as loader,
            addresses.connect(
                addresses.warehouse("transformer"), side="warehouse", application="medallion erase"
            ) as transformer,
        ):
            sides = cls([], [], [], [])
            roles = []
            for connection in (loader, transformer):
                role = await connection.fetchval("select current_user")
                if role not in roles:
                    roles.append(role)
                    sides.opened.append(connection)
            await sides.look()
            yield sides

    async def look(self) -> None:
        """Find the tables there are now."""
        self.seen, self.owned = [], []
        for connection in self.opened:
            role = await connection.fetchval("select current_user")
            places = await find_documents(connection, await find_places(connection))
            self.seen.append(places)
            self.owned.append((connection, [place for place in places if place.owner == role]))
        # Tables of other owners cannot be deleted from, and tables that neither role may read cannot be searched.
        every = {place.told for places in self.seen for place in places}
        self.closed = sorted(every - {place.told for places in self.seen for place in places if place.readable})

    async def count(self, subject: Subject, traces: Traces) -> list[Found]:
        """The subject's rows per table."""
        found: dict[str, Found] = {}
        for connection, places in zip(self.opened, self.seen, strict=True):
            for line in await count_rows(connection, places, subject, traces):
                found.setdefault(line.place.told, line)
        return sorted(found.values(), key=lambda line: line.place.told)

    async def search(self, subject: Subject, traces: Traces) -> list[Remains]:
        """What is left of the subject, in tables and in the planner's statistics."""
        found: list[Remains] = []
        looked: set[str] = set()
        # The loader first: only it sees the deletes of its own transaction.
        for connection, places in zip(self.opened, self.seen, strict=True):
            mine = [place for place in places if place.readable and place.told not in looked]
            found += await search(connection, mine, subject, traces)
            looked |= {place.told for place in mine}
        return sorted(found, key=lambda line: (line.place, line.column))

    def not_searched_again(self, former: Mapping[str, int], traces: Traces) -> list[Remains]:
        """What an earlier run left and this one could not search for, because no row has the subject's values any more:
        columns, of tables that are still there, that are searched for values and not for keys."""
        places = {place.told: place for seen in self.seen for place in seen}
        left = []
        for name, rows in former.items():
            table, _, column = name.rpartition(".")
            place = places.get(table)
            by_key = column in traces.values or (place is not None and column in place.documents)
            # Not of a table that is gone; statistics, files and other databases have a space in their names.
            if not by_key and (place is not None or " " in table):
                left.append(Remains(table, column, rows, path="found by an earlier run"))
        return left

    async def statistics(self, traces: Traces) -> list[Remains]:
        """Refresh the planner's statistics that have data of the subject; those that no role may refresh are left."""
        owners = {place.told for _, places in self.owned for place in places}
        left: set[tuple[str, str, str]] = set()
        for connection in self.opened:
            theirs, stuck = await refresh_found(connection, traces)
            # One role's are refreshed by the other.
            left |= {line for line in theirs if f"{line[0]}.{line[1]}" not in owners} | set(stuck)
        return [Remains(f"pg_stats of {schema}.{name}", column, 1) for schema, name, column in sorted(left)]

    async def vacuum(self, tables: Collection[str]) -> None:
        """Vacuum deleted rows from disk; only a table's owner may."""
        for connection, owned in self.owned:
            for place in owned:
                if place.told in tables:
                    await connection.execute(f"vacuum {place.relation}")
                    # Again: an erasure that was killed may not have come to it.
                    await refresh(connection, [place])
