"""What is left of each key → the landing table, a table of deleted keys, and rows that raw cannot hold.

Rows come as texts into a table beside the landing table. There, values that their events did not have are taken from
raw, and PostgreSQL is asked whether texts are values of their columns' types before it casts them.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.kinds.debezium.declared import OFFSET, PARTITION
from flows.kinds.debezium.fold import Fold, Version
from flows.kinds.debezium.types import valid
from flows.landing.copy import HEADER, TRAILER, copy_into
from flows.landing.table import LANDING_SCHEMA, Stamp, Target, create_landing, stamp_landing
from flows.publish import deletes
from flows.quality import open_rows, quarantine
from flows.quality.open_rows import same_key
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier
from flows.values.shape import Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The rule of a row with a text that is no value of its column's type.
MISFIT = "value_fits_type"
#: The rule of a row with an unchanged value that neither earlier events nor raw have.
UNKNOWN = "value_is_known"
_MOST_REFUSED = 10_000
_ROWS = 2_000
_LENGTH = struct.Struct("!i")
_NULL = _LENGTH.pack(-1)
# What is known of each column's value: in the event; unchanged; not a column of the event; unchanged, and unknown.
_HERE, _KEPT, _ABSENT, _LOST = "0", "1", "2", "3"


@dataclass(slots=True)
class Stage:
    """The rows of one commit on their way. `raw` are raw's columns, None before the first load."""

    warehouse: Connection[Record]
    target: Target
    shape: Shape
    keys: tuple[str, ...]
    raw: dict[str, str] | None

    @property
    def gone(self) -> str:
        """The table of deleted keys."""
        return qualified(LANDING_SCHEMA, f"{self.target.landing_name}__g")

    @property
    def _texts(self) -> str:
        return qualified(LANDING_SCHEMA, f"{self.target.landing_name}__t")

    @property
    def seen(self) -> str:
        """The table of all keys that a reload has found."""
        return qualified(LANDING_SCHEMA, f"{self.target.landing_name}__k")

    @property
    def _names(self) -> tuple[str, ...]:
        return self.shape.names[:-2]

    @property
    def kinds(self) -> dict[str, str]:
        """The key's columns and their types."""
        return {key: column.raw_type for key in self.keys if (column := self.shape.column(key))}

    async def land(self, fold: Fold, stamp: Stamp) -> list[Unreadable]:
        """Fill both tables; returns the rows that raw cannot hold, with the texts of their columns."""
        await create_landing(self.warehouse, self.target, self.shape, first=self.raw is None, bare=True)
        await self._create()
        await copy_into(self.warehouse, f"{self.target.landing_name}__t", self._columns, self._packed(fold))
        await self._fill()
        await self._insert()
        await stamp_landing(self.warehouse, self.target, stamp)
        if fold.truncated and self.raw is not None:
            await self._all_are_gone()
        if await open_rows.count_open(self.warehouse, table=self.target.name):
            gone = f"(select *, clock_timestamp() as _deleted_at from {self.gone})"
            await quarantine.resolve(self.warehouse, gone, self.shape, self.kinds, table=self.target.name)
        return await self._refused()

    # -- texts

    @property
    def _columns(self) -> list[str]:
        return [
            *(f"c{number}" for number, _ in enumerate(self._names)),
            *(f"o{number}" for number, _ in enumerate(self.keys)),
            "known", "moved", "gone", PARTITION, OFFSET,
        ]  # fmt: skip

    async def _create(self) -> None:
        columns = [f"{name} text" for name in self._columns[:-4]]
        columns += ["moved text", "gone text", f"{PARTITION} text", f"{OFFSET} text"]
        keys = [f"{quote_identifier(key)} {kind}" for key, kind in self.kinds.items()]
        for relation, made in ((self._texts, columns), (self.gone, keys)):
            await self.warehouse.execute(f"drop table if exists {relation}")
            await self.warehouse.execute(f"create unlogged table {relation} ({', '.join(made)})")

    async def _packed(self, fold: Fold) -> AsyncIterator[bytes]:
        yield HEADER
        names, chunk = self._names, list[bytes]()
        head = struct.pack("!h", len(self._columns))
        for key, version in fold.versions.items():
            chunk += (head, *(_text(value) for value in self._row(names, key, version)))
            if len(chunk) > _ROWS * len(names):
                yield b"".join(chunk)
                chunk.clear()
        yield b"".join(chunk)
        yield TRAILER

    def _row(self, names: Sequence[str], key: tuple[str, ...], version: Version) -> list[str | None]:
        values = {**version.values, **dict(zip(self.keys, key, strict=True))}
        known = "".join(_HERE if name in values else _KEPT if name in version.kept else _ABSENT for name in names)
        origin = version.origin or (None,) * len(self.keys)
        if version.gone:
            known, origin = _HERE * len(names), (None,) * len(self.keys)
        flags = ["t" if version.moved else "f", "t" if version.gone else "f"]
        return [
            *(values.get(name) for name in names), *origin, known, *flags, str(version.partition), str(version.offset),
        ]  # fmt: skip

    # -- values that events do not have

    def _typed(self, place: int, kind: str, letter: str = "c") -> str:
        return f"t.{letter}{place}" if kind == "text" else f"t.{letter}{place}::{kind}"

    async def _fill(self) -> None:
        if self.raw is not None and await self.warehouse.fetchval(
            f"select exists (select from {self._texts} where known ~ '[{_KEPT}{_ABSENT}]' and o0 is not null)"
        ):
            await self._from_raw(self.raw)
        await self.warehouse.execute(
            f"update {self._texts} set known = translate(known, '{_KEPT}{_ABSENT}', '{_LOST}{_HERE}') "
            f"where known ~ '[{_KEPT}{_ABSENT}]'"
        )

    async def _from_raw(self, raw: dict[str, str]) -> None:
        """From the row of the same key, or of the key that it had before, which may be marked as deleted by now.

        Of a former key only if its changes are in the same partition: those of another may be read sooner or later.
        """
        origin = ", ".join(
            f"{self._typed(number, kind, 'o')} as {quote_identifier(key)}"
            for number, (key, kind) in enumerate(self.kinds.items())
        )
        readable = " and ".join(valid(f"o{number}", kind) for number, kind in enumerate(self.kinds.values()))
        # A text that is no value must not be cast, whatever the planner evaluates first.
        rows = (
            f"(select t.ctid as place, t.moved, {origin} from (select ctid, * from {self._texts} where o0 is not null "
            f"and known ~ '[{_KEPT}{_ABSENT}]' and {readable} offset 0) as t) as w"
        )
        target = self.target.name
        if await open_rows.count_open(self.warehouse, table=target):
            # Raw's version is older than the one in quarantine, and so may its values be.
            await self.warehouse.execute(
                f"update {self._texts} as t set known = translate(t.known, '{_KEPT}', '{_LOST}') from {rows} "
                "where t.ctid = w.place and exists (select from quarantine.rows as q where q.source_system = $1 "
                f"and q.table_name = $2 and q.withheld and {same_key(self.kinds, 'w')})",
                target.source,
                target.name,
            )
        values = ", ".join(
            f"c{place} = case when substr(t.known, {place + 1}, 1) in ('{_KEPT}', '{_ABSENT}') "
            f"then r.{quote_identifier(name)}::text else t.c{place} end"
            for place, name in enumerate(self._names)
            if name in raw
        )
        same = " and ".join(f"r.{quote_identifier(key)} = w.{quote_identifier(key)}" for key in self.keys)
        await self.warehouse.execute(
            f"update {self._texts} as t set {values}, known = translate(t.known, '{_KEPT}{_ABSENT}', '{_HERE}{_HERE}') "
            f"from {rows} inner join {self.target.raw} as r on {same} "
            f"where t.ctid = w.place and case when w.moved = 't' then r.{PARTITION} = t.{PARTITION}::integer "
            "else r._deleted_at is null end"
        )

    # -- typed rows

    @property
    def _valid(self) -> str:
        checks = [valid(f"c{place}", column.raw_type) for place, column in enumerate(self.shape.columns[:-2])]
        return " and ".join(dict.fromkeys(checks))

    @property
    def _key_valid(self) -> str:
        """Of a deleted key, only the key is looked at."""
        places = [self._names.index(key) for key in self.keys]
        return " and ".join(valid(f"c{place}", kind) for place, kind in zip(places, self.kinds.values(), strict=True))

    @property
    def _fits(self) -> str:
        return (
            f"case when gone = 't' then {self._key_valid} else {self._valid} and position('{_LOST}' in known) = 0 end"
        )

    async def _insert(self) -> None:
        values = [self._typed(place, column.raw_type) for place, column in enumerate(self.shape.columns[:-2])]
        values += [f"t.{PARTITION}::integer", f"t.{OFFSET}::bigint"]
        for relation, names, selected, gone in (
            (self.target.landing, self.shape.names, values, "f"),
            (self.gone, self.keys, [values[self._names.index(key)] for key in self.keys], "t"),
        ):
            await self.warehouse.execute(
                f"insert into {relation} ({column_list(list(names))}) select {', '.join(selected)} "
                f"from (select * from {self._texts} where gone = '{gone}' and {self._fits} offset 0) as t"
            )

    async def _refused(self) -> list[Unreadable]:
        """Rows with a value that does not fit its type, or that is not known.

        Raises:
            DataRefused: there are so many that the declared types must be wrong.
        """
        named = ", ".join(
            f"case when substr(t.known, {place + 1}, 1) <> '{_LOST}' then t.c{place} end as {quote_identifier(name)}"
            for place, name in enumerate(self._names)
        )
        places = [self._names.index(key) for key in self.keys]
        found = await self.warehouse.fetch(
            f"select (select to_jsonb(d)::text from (select {named}, t.{PARTITION}, t.{OFFSET}) as d) as document, "
            f"array[{', '.join(f't.c{place}' for place in places)}]::text[] as key, "
            f"position('{_LOST}' in t.known) > 0 as unknown "
            f"from {self._texts} as t where not ({self._fits}) order by {OFFSET}::bigint limit {_MOST_REFUSED + 1}"
        )
        if len(found) > _MOST_REFUSED:
            raise DataRefused(
                f"values of more than {_MOST_REFUSED:,} rows do not fit their columns' types; nothing was published",
                where=self.target.where,
                fix="correct the types in columns, or how the connector writes values in encodings=Encodings(…)",
            )
        return [
            Unreadable(UNKNOWN if row["unknown"] else MISFIT, row["document"], tuple(row["key"]), is_document=True)
            for row in found
        ]

    # -- rows that are gone without an event of their own

    def _not_in(self, *relations: str) -> str:
        same = " and ".join(f"o.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in self.keys)
        return " and ".join(f"not exists (select from {relation} as o where {same})" for relation in relations)

    async def _all_are_gone(self) -> None:
        """After a truncate: raw's rows that no later change wrote."""
        await self.warehouse.execute(
            f"insert into {self.gone} select {column_list(list(self.keys), 'r')} from {self.target.raw} as r "
            f"where r._deleted_at is null and {self._not_in(self.target.landing, self.gone)}"
        )
        if await open_rows.count_open(self.warehouse, table=self.target.name):
            await quarantine.resolve_gone(
                self.warehouse, self.target.landing, self.shape, self.kinds, table=self.target.name
            )

    async def note_seen(self, *, begins: bool) -> None:
        """Of a reload: note the keys of this commit."""
        if begins:
            await self.warehouse.execute(f"drop table if exists {self.seen}")
            await self.warehouse.execute(f"create unlogged table {self.seen} as table {self.gone} with no data")
        names = column_list(list(self.keys))
        await self.warehouse.execute(
            f"insert into {self.seen} ({names}) select {names} from {self.target.landing} union all table {self.gone}"
        )

    async def unseen_are_gone(self, max_deleted: float) -> None:
        """Of a reload: rows of raw of which no event is left are gone.

        Raises:
            DataRefused: they are a larger share of raw's rows than `max_deleted`.
        """
        done = await self.warehouse.execute(
            f"insert into {self.gone} select {column_list(list(self.keys), 'r')} from {self.target.raw} as r "
            f"where r._deleted_at is null and {self._not_in(self.seen)}"
        )
        held = await self.warehouse.fetchval(f"select count(*) from {self.target.raw} where _deleted_at is null")
        deletes.refuse_too_many(int(done.split()[-1]), held, max_deleted, self.target.where)

    async def drop(self) -> None:
        """After the load."""
        for relation in (self._texts, self.gone, self.seen):
            await self.warehouse.execute(f"drop table if exists {relation}")


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH.pack(len(data)) + data
