"""The parents whose children are fetched: those in raw that changed since the last load, in the order of change.

A parent that changes while they are read is left to the next load: if one load read it twice, deleted children of
the first read would remain next to those of the second.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.kinds.api import Api, Endpoint
from flows.kinds.api.pages.children import ParentRecord
from flows.kinds.api.pages.place import Place
from flows.landing.table import Target, raw_columns
from flows.values.errors import ConfigurationError
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Parents fetched from the warehouse per query.
_SLICE = 1000


@dataclass(frozen=True, slots=True)
class Parents:
    """Parents of batches above `after`, up to batch `until` inclusive; or all (`every`).

    Before them come those whose lists were `refused` to an earlier load.
    All are read in key order: one that changes meanwhile keeps its position, and is not skipped.
    """

    target: Target
    keys: tuple[str, ...]
    after: int
    until: int
    every: bool
    refused: tuple[tuple[str, ...], ...] = ()

    async def records(self, warehouse: Connection[Record], place: Place | None) -> AsyncGenerator[ParentRecord, None]:
        """The parents in order, only those after `place`. Parents deleted at the source are skipped."""
        texts = ", ".join(f"{quote_identifier(key)}::text" for key in self.keys)
        line = "0::bigint" if self.every else "_batch_id"
        batch, key = (self.after, None) if place is None else (place["batch"], place["keys"])
        again = {} if self.every else await self._again(warehouse)
        for keys in again:
            yield ParentRecord(
                dict(zip(self.keys, keys, strict=True)), {"batch": batch, "keys": key, "until": self.until}
            )
        while True:
            behind = f"{line} > $1"
            if key is not None:
                casts = ", ".join(f"${number}" for number in range(4, 4 + len(key)))
                behind = f"({line}, {texts}) > ($1, {casts})"
            rows = await warehouse.fetch(
                f"select {line}, {texts} from {self.target.raw} where _deleted_at is null "
                f"and {behind} and {line} <= $2 order by {', '.join(str(n + 1) for n in range(len(self.keys) + 1))} "
                "limit $3",
                batch,
                self.until,
                _SLICE,
                *(key or ()),
            )
            for row in rows:
                batch, *key = row.values()
                if tuple(key) in again:
                    continue
                yield ParentRecord(
                    dict(zip(self.keys, key, strict=True)), {"batch": batch, "keys": key, "until": self.until}
                )
            if len(rows) < _SLICE:
                return

    async def _again(self, warehouse: Connection[Record]) -> dict[tuple[str, ...], None]:
        """The refused parents that still exist, in order."""
        if not self.refused:
            return {}
        texts = ", ".join(f"{quote_identifier(key)}::text" for key in self.keys)
        found = await warehouse.fetch(
            f"select {texts} from {self.target.raw} where _deleted_at is null "
            f"and jsonb_build_array({texts}) = any($1::text[]::jsonb[]) order by {texts}",
            [json.dumps(keys) for keys in self.refused],
        )
        return dict.fromkeys(tuple(row.values()) for row in found)

    async def with_children(
        self, warehouse: Connection[Record], child: Target, endpoint: Endpoint
    ) -> ParentRecord | None:
        """A parent with children in raw: that of the latest children. None if raw cannot show it."""
        parent = endpoint.parent
        if parent is None or not endpoint.lists_are_told_apart or await raw_columns(warehouse, child) is None:
            return None
        key = f"p.{quote_identifier(self.keys[0])}::text"
        found = await warehouse.fetchval(
            f"select {key} from {child.raw} as c inner join {self.target.raw} as p "
            f"on {key} = c.{quote_identifier(parent.column)}::text "
            "where c._deleted_at is null and p._deleted_at is null order by c._batch_id desc limit 1"
        )
        return None if found is None else ParentRecord({self.keys[0]: found}, {})


async def parents_of(
    warehouse: Connection[Record],
    source: Api,
    endpoint: Endpoint,
    since: str | None,
    place: Place | None,
    refused: tuple[tuple[str, ...], ...] = (),
) -> Parents:
    """The parents to fetch now. `since` is the parents' batch that the last load reached.

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
    return Parents(target, parent.keys, after, until, every, refused)
