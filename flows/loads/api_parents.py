"""The parents whose children are asked for: those of raw that changed since the last load, in the order of change."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.extract.place import Place
from flows.extract.rest_children import ParentRecord
from flows.load.table import Target, raw_columns
from flows.spec import Api, Endpoint
from flows.spec.errors import ConfigurationError
from flows.spec.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Parents fetched from the warehouse at one time.
_SLICE = 1000


@dataclass(frozen=True, slots=True)
class Parents:
    """Parents of batches above `after`, up to and with batch `until`."""

    target: Target
    keys: tuple[str, ...]
    after: int
    until: int

    async def records(self, warehouse: Connection[Record], place: Place | None) -> AsyncGenerator[ParentRecord, None]:
        """The parents in order, those behind `place` only. A parent deleted at the source is not asked for."""
        texts = ", ".join(f"{quote_identifier(key)}::text" for key in self.keys)
        batch, key = (self.after, None) if place is None else (place["batch"], place["keys"])
        while True:
            behind = "_batch_id > $1"
            if key is not None:
                casts = ", ".join(f"${number}" for number in range(4, 4 + len(key)))
                behind = f"(_batch_id, {texts}) > ($1, {casts})"
            rows = await warehouse.fetch(
                f"select _batch_id, {texts} from {self.target.raw} where _deleted_at is null "
                f"and {behind} and _batch_id <= $2 order by _batch_id, {texts} limit $3",
                batch,
                self.until,
                _SLICE,
                *(key or ()),
            )
            for row in rows:
                batch, *key = row.values()
                yield ParentRecord(dict(zip(self.keys, key, strict=True)), {"batch": batch, "keys": key})
            if len(rows) < _SLICE:
                return


async def parents_of(warehouse: Connection[Record], source: Api, endpoint: Endpoint, since: str | None) -> Parents:
    """The parents to ask for now. `since` is the parents' batch that the last load reached.

    Raises:
        ConfigurationError: the parent has never been loaded.
    """
    assert endpoint.parent is not None  # the caller asks for children only
    parent = source.table(endpoint.parent.endpoint)
    target = Target(source.name, parent.name, source.raw_schema)
    if await raw_columns(warehouse, target) is None:
        raise ConfigurationError(
            f"its parent {parent.name} has not been loaded yet",
            where=f"{source.name}.{endpoint.name}",
            next_move=f"run `medallion run {source.name}.{parent.name} {source.name}.{endpoint.name}`",
        )
    until = await warehouse.fetchval(f"select coalesce(max(_batch_id), 0) from {target.raw}")
    after = 0 if since is None or endpoint.parent.every else int(since)
    return Parents(target, parent.keys, after, until)
