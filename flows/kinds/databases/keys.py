"""Whether a load would detect deletes: the keys at the source against those in raw and quarantine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.plan import ForeignPlan
from flows.publish import write
from flows.quality.open_rows import key_set_not_in_raw
from flows.values.identifiers import quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def keys_differ(warehouse: Connection[Record], reader: Reader, planned: ForeignPlan) -> bool:
    """Whether raw and quarantine have other keys than the source. The warehouse hashes them, and stores none."""
    described, bounded = planned.described, planned.bounded
    if planned.first:
        return False
    table = described.table
    target = planned.target
    kinds = {key.name: key.raw_type for key in described.keys}
    held = await write.key_set(warehouse, target, table.keys)
    newest = table.on_duplicate == "newest"
    aside = await key_set_not_in_raw(warehouse, target.raw, kinds, table=target.name, newest=newest)
    expected = held.plus(aside)
    measured = await rows.measure(reader, described, bounded)
    if measured.below != expected.rows:
        return True  # without reading any key
    columns = [f"k{place}::{kind} as {quote_identifier(name)}" for place, (name, kind) in enumerate(kinds.items())]
    arrays = ", ".join(f"${place + 1}::text[]" for place in range(len(kinds)))
    names = ", ".join(f"k{place}" for place in range(len(kinds)))
    query = (
        f"select count(*) as rows, {fingerprint([quote_identifier(name) for name in kinds])} as mark "
        f"from (select {', '.join(columns)} from unnest({arrays}) as sent ({names})) as keys"
    )
    condition = f"{bounded.below} and ({rows.fits(described.keys)})"
    found = KeySet(0)
    read = rows.texts(reader, described, described.keys, condition, measured.longest)
    async with contextlib.aclosing(read) as batches:
        async for batch in batches:
            if batch.num_rows:
                row = await warehouse.fetchrow(query, *(column.to_pylist() for column in batch.columns))
                assert row is not None  # an aggregate always answers one row
                part = KeySet(row["rows"], row["mark"])
                found = part if found.fingerprint is None else found.plus(part)
    return found.fingerprint != expected.fingerprint and (found.fingerprint or 0) != (expected.fingerprint or 0)
