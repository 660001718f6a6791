"""Positions of cursors: a time or a number as text, in the form of the cursor's column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.cursor import Epoch, Timestamp
from flows.values.identifiers import quote_literal
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# An hour that comes twice begins within this time; clocks have not been set back by more since 1970.
_MINUTES_AHEAD = 180


@dataclass(frozen=True, slots=True)
class Place:
    """How a cursor's column writes a time: `expression` is SQL over `moment`, a timestamp with time zone.

    `zone` is empty for a column that needs none, and for UTC.
    """

    raw_type: str
    expression: str
    zone: str = ""
    per_second: int = 0

    @classmethod
    def of(cls, cursor: Timestamp | Epoch, raw_type: str) -> Place:
        """The form of a column of that type."""
        if isinstance(cursor, Epoch):
            return cls(
                raw_type,
                f"floor(extract(epoch from moment)::numeric * {cursor.per_second})::numeric(40, 0)::text",
                per_second=cursor.per_second,
            )
        if "with time zone" in raw_type:
            return cls(raw_type, "moment::text")
        if cursor.zone_name.upper() == "UTC":
            return cls(raw_type, "(moment at time zone 'UTC')::text")
        zone = quote_literal(cursor.zone_name)
        # In autumn an hour comes twice: the earliest local time that any moment from then on will have.
        ahead = (
            f"select min((date_trunc('minute', moment) + n * interval '1 minute') at time zone {zone}) "
            f"from generate_series(1, {_MINUTES_AHEAD}) as n"
        )
        return cls(raw_type, f"least(moment at time zone {zone}, ({ahead}))::text", cursor.zone_name)

    async def at(self, connection: Connection[Record], *moments: datetime | None) -> list[str | None]:
        """The lowest position that a row may get from each moment on; None for none."""
        given = "unnest($1::timestamptz[]) with ordinality as given (moment, place)"
        rows = await connection.fetch(f"select {self.expression} from {given} order by given.place", list(moments))
        return [row[0] for row in rows]

    async def are_before(
        self, connection: Connection[Record], positions: Sequence[str | None], other: str
    ) -> list[bool]:
        """Which positions are lower than another; none is no position."""
        if self.per_second:
            return [one is not None and float(one) < float(other) for one in positions]
        kind = "timestamptz" if "with time zone" in self.raw_type else "timestamp"
        given = "unnest($1::text[]) with ordinality as given (position, place)"
        query = f"select coalesce(given.position::{kind} < $2::text::{kind}, false) from {given} order by given.place"
        try:
            return [row[0] for row in await connection.fetch(query, list(positions), other)]
        except asyncpg.DataError:
            return [False for _ in positions]  # no time at all: the read says so

    def lower(self, value: str, overlap: timedelta) -> str:
        """SQL for the position so much before a value."""
        literal = f"{quote_literal(value)}::{self.raw_type}"
        if self.per_second:
            units = overlap // timedelta(microseconds=1) * self.per_second // 1_000_000
            kind = "double precision" if self.raw_type == "double precision" else "numeric"
            kind = "bigint" if self.raw_type in ("integer", "bigint") else kind
            return f"{quote_literal(value)}::{kind} - {units}"
        lag = f"{quote_literal(f'{overlap.total_seconds():.6f} seconds')}::interval"
        if self.zone and overlap:
            # In spring an hour is left out: an hour ago, the local time was two hours less.
            local, zone = f"{quote_literal(value)}::timestamp", quote_literal(self.zone)
            return f"least({local} - {lag}, (({local} at time zone {zone}) - {lag}) at time zone {zone})"
        return f"{literal} - {lag}"


def number_type(shape: Shape, column: str) -> str:
    """The type in which numbers of the column are compared, so that an index on it is used."""
    found = shape.column(column)
    return "numeric" if found is not None and found.raw_type.startswith("numeric") else "bigint"
