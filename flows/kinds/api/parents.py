"""The parents whose children are fetched: those in raw that changed since the last load, in the order of change.

A parent that changes while they are read is left to the next load: if one load read it twice, deleted children of
the first read would remain next to those of the second.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from flows.kinds.api import Api, Endpoint, Since
from flows.kinds.api.clocks import Clocks
from flows.kinds.api.declared.parts import Partition
from flows.kinds.api.pages.children import ParentRecord
from flows.kinds.api.pages.first import values_of
from flows.kinds.api.pages.place import Place
from flows.landing.table import Target, raw_columns
from flows.values.errors import ConfigurationError
from flows.values.identifiers import quote_identifier
from flows.values.json_path import text_at

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Parents fetched from the warehouse per query.
_SLICE = 1000
_NO_CLOCKS = Clocks()


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a parent's record that requests contain: its name, its text as SQL, and whether it is a number."""

    name: str
    text: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class PerParent:
    """Where the list of each parent starts: at the latest value of its children in raw.

    `columns` are those by which raw tells the lists apart, the parent's first key above all. Lists of children are
    published completely or not at all, so nothing below it is missing but what changed while its list was read: no
    value is later than the API's clock when a load began that has read it, by the batch of its rows (`Clocks`).
    """

    child: Target
    columns: tuple[str, ...]
    cursor: Since
    clocks: Clocks

    async def of(self, warehouse: Connection[Record], keys: Sequence[str]) -> dict[tuple[str | None, ...], str]:
        """The values to start from, as values of the cursor's column, of parents with these first keys."""
        order = ' collate "C"' if self.cursor.form == "text" else ""
        texts = ", ".join(f"{quote_identifier(column)}::text" for column in self.columns)
        # One scan per thousand parents; of an index, if the key of the children begins with their parent.
        found = await warehouse.fetch(
            f"select array[{texts}] as list, max({quote_identifier(self.cursor.column)}{order})::text as latest, "
            # A row may be marked as deleted by a batch that has not read the list.
            f"max(_batch_id) filter (where _deleted_at is null) as batch from {self.child.raw} "
            f"where {quote_identifier(self.columns[0])}::text = any($1) group by 1",
            keys,
        )
        starts = {
            tuple(row["list"]): self._lower(row["latest"], row["batch"]) for row in found if row["latest"] is not None
        }
        return {name: start for name, start in starts.items() if start is not None}

    def _lower(self, latest: str, batch: int | None) -> str | None:
        if not self.cursor.is_time:
            return self.cursor.lower(latest)
        clock = None if batch is None else self.clocks.at(batch)
        if clock is None:
            return None
        return self.cursor.lower(latest if self.cursor.moment(latest) <= clock else self.cursor.at(clock))


@dataclass(frozen=True, slots=True)
class Parents:
    """Parents of batches above `after`, up to batch `until` inclusive; or all (`every`).

    `values` are what requests contain of them, `copied` the names of those that their children's rows have. With
    `partitions`, each parent has a list per combination of their values.

    Before them come those whose lists were `refused` to an earlier load.
    All are read in key order: one that changes meanwhile keeps its position, and is not skipped.
    """

    target: Target
    keys: tuple[str, ...]
    after: int
    until: int
    every: bool
    refused: tuple[tuple[str, ...], ...] = ()
    values: tuple[Value, ...] = ()
    copied: tuple[str, ...] = ()
    since: PerParent | None = None
    partitions: tuple[Partition, ...] = ()

    async def records(self, warehouse: Connection[Record], place: Place | None) -> AsyncGenerator[ParentRecord, None]:
        """The parents in order, only those after `place`. Parents deleted at the source are skipped."""
        texts = self._texts
        line = "0::bigint" if self.every else "_batch_id"
        batch, key = (self.after, None) if place is None else (place["batch"], place["keys"])
        again = {} if self.every else await self._again(warehouse)
        before = {"batch": batch, "keys": key, "until": self.until}
        for values in again.values():
            for record in self._records(values, before, before, {}):
                yield record
        more = "".join(f", {value.text}" for value in self.values)
        while True:
            behind = f"{line} > $1"
            if key is not None:
                casts = ", ".join(f"${number}" for number in range(4, 4 + len(key)))
                behind = f"({line}, {texts}) > ($1, {casts})"
            rows = await warehouse.fetch(
                f"select {line}, {texts}{more} from {self.target.raw} where _deleted_at is null "
                f"and {behind} and {line} <= $2 order by {', '.join(str(n + 1) for n in range(len(self.keys) + 1))} "
                "limit $3",
                batch,
                self.until,
                _SLICE,
                *(key or ()),
            )
            starts = {} if self.since is None else await self.since.of(warehouse, [row[1] for row in rows])
            for row in rows:
                batch, *told = row.values()
                key = told[: len(self.keys)]
                if tuple(key) not in again:
                    after = {"batch": batch, "keys": key, "until": self.until}
                    for record in self._records(told, before, after, starts):
                        yield record
                    before = after
            if len(rows) < _SLICE:
                return

    @property
    def _texts(self) -> str:
        return ", ".join(f"{quote_identifier(key)}::text" for key in self.keys)

    def _records(
        self,
        row: Sequence[str | None],
        before: Place,
        after: Place,
        starts: Mapping[tuple[str | None, ...], str],
    ) -> Iterator[ParentRecord]:
        """The lists of a parent. Reading goes on behind the parent only when all of them have been read."""
        named = {name: key or "" for name, key in zip(self.keys, row, strict=False)}
        told = dict(zip((value.name for value in self.values), row[len(self.keys) :], strict=True))
        values: dict[str, str | int] = {
            value.name: int(text) if value.is_number else text
            for value in self.values
            if (text := told[value.name]) is not None
        }
        lacks = tuple(name for name, text in told.items() if text is None)
        *earlier, last = product(*(part.values for part in self.partitions))
        for combination in (*earlier, last):
            copied = (*(told.get(name, named.get(name)) for name in self.copied), *combination)
            text = json.dumps(copied, ensure_ascii=False) if len(copied) > 1 else ""
            own = values_of(self.partitions, combination)
            is_last = combination == last
            place = after if is_last else before
            yield ParentRecord(named, place, values | own, text, lacks, starts.get(copied), is_last)

    async def _again(self, warehouse: Connection[Record]) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        """The refused parents that still exist, in order, with their values."""
        if not self.refused:
            return {}
        texts = self._texts
        more = "".join(f", {value.text}" for value in self.values)
        found = await warehouse.fetch(
            f"select {texts}{more} from {self.target.raw} where _deleted_at is null "
            f"and jsonb_build_array({texts}) = any($1::text[]::jsonb[]) order by {texts}",
            [json.dumps(keys) for keys in self.refused],
        )
        rows = [tuple(row.values()) for row in found]
        return {row[: len(self.keys)]: row for row in rows}

    async def with_children(
        self, warehouse: Connection[Record], child: Target, endpoint: Endpoint, but: Sequence[str] = ()
    ) -> ParentRecord | None:
        """A parent with children in raw, `but` none of these: that of the latest children. None if raw shows none."""
        parent = endpoint.parent
        if parent is None or not endpoint.lists_are_told_apart or await raw_columns(warehouse, child) is None:
            return None
        key = f"p.{quote_identifier(self.keys[0])}::text"
        found = await warehouse.fetchval(
            f"select {key} from {child.raw} as c inner join {self.target.raw} as p "
            f"on {key} = c.{quote_identifier(parent.column)}::text "
            f"where c._deleted_at is null and p._deleted_at is null and {key} <> all($1) "
            "order by c._batch_id desc limit 1",
            but,
        )
        if found is None:
            return None
        more = "".join(f", {value.text}" for value in self.values)
        row = await warehouse.fetchrow(
            f"select {self._texts}{more} from {self.target.raw} where {quote_identifier(self.keys[0])}::text = $1 "
            "and _deleted_at is null limit 1",
            found,
        )
        told = [] if row is None else list(row.values())
        return next(self._records(told, {}, {}, {})) if told else None


async def parents_of(
    warehouse: Connection[Record],
    source: Api,
    endpoint: Endpoint,
    since: str | None,
    place: Place | None,
    refused: tuple[tuple[str, ...], ...] = (),
    clocks: Clocks = _NO_CLOCKS,
) -> Parents:
    """The parents to fetch now. `since` is the parents' batch that the last load reached.

    `clocks` are the API's when earlier loads began; without, all lists are read from their beginning.
    After a `place`, they end where those of the load that stored it did. Those `refused` to an earlier load come first.

    Raises:
        ConfigurationError: the parent has never been loaded.
    """
    assert endpoint.parent is not None  # only called for children
    parent = source.table(endpoint.parent.endpoint)
    target = Target(source.name, parent.name, source.raw_schema)
    if await raw_columns(warehouse, target) is None:
        raise ConfigurationError(
            f"its parent {parent.name} has not been loaded yet",
            where=f"{source.name}.{endpoint.name}",
            fix=f"run `medallion run {source.name}.{parent.name} {source.name}.{endpoint.name}`",
        )
    if place is None:
        until = await warehouse.fetchval(f"select coalesce(max(_batch_id), 0) from {target.raw}")
    else:
        until = place["until"]
    every = endpoint.parent.every
    after = -1 if every else int(since or 0)
    copied = (parent.keys[0], *(field.name for field in endpoint.parent.fields))
    child, cursor, per_parent = Target(source.name, endpoint.name, source.raw_schema), endpoint.cursor, None
    if isinstance(cursor, Since) and clocks.known and await raw_columns(warehouse, child) is not None:
        per_parent = PerParent(child, tuple(field.name for field in endpoint.copied), cursor, clocks)
    return Parents(
        target,
        parent.keys,
        after,
        until,
        every,
        refused,
        _values(parent, endpoint),
        copied,
        per_parent,
        endpoint.partitions,
    )


def _values(parent: Endpoint, child: Endpoint) -> tuple[Value, ...]:
    """What the child's requests and rows have of the parent's record, besides its keys as texts."""
    assert child.parent is not None
    columns = {field.name: field.type for field in (*parent.key_fields, *parent.copied)}
    fields = {field.name: field for field in child.parent.fields}
    found = list[Value]()
    own = {part.name for part in child.partitions}
    for name in dict.fromkeys((*child.placeholders, *fields)):
        if name in own:
            continue
        if name in fields:
            text, kind = text_at("payload", fields[name].at), fields[name].type
        else:
            text, kind = f"{quote_identifier(name)}::text", columns[name]
        found.append(Value(name, text, kind == "bigint"))
    return tuple(found)
