"""Landing → raw, by the load's strategy, inside the publishing transaction."""

from __future__ import annotations

from flows.declare import Append, Merge, Overwrite, Replace
from flows.landing.table import adopt_landing, evolve
from flows.publish import overwrite, write
from flows.publish.session import LoadSession
from flows.publish.staged import Staged
from flows.quality.open_rows import stands_open


async def write_rows(session: LoadSession, staged: Staged, rows: int) -> write.Published:
    """Write `rows` good rows of the landing table into raw, by the load's strategy."""
    warehouse, target = session.warehouse, session.target
    if staged.first:
        await adopt_landing(warehouse, target, staged.keys)
        return write.Published(inserted=rows)
    await evolve(warehouse, target, list(staged.changes))
    if staged.renews:
        await warehouse.execute(f"delete from {target.raw}")
    match staged.load:
        case Replace(min_share=share):
            # Quarantined rows still exist at the source; a merge also keeps their last good version.
            kept = stands_open(staged.key_types, "r", table=target.name, newest=staged.on_duplicate == "newest")
            return await write.replace(
                warehouse,
                target,
                staged.shape,
                staged.keys,
                write.ShrinkageLimit(staged.rows_read, share),
                write.Scope(kept=kept),
                tombstones=staged.tombstones,
            )
        case Overwrite() as load:
            kept = stands_open(staged.key_types, "r", table=target.name, newest=staged.on_duplicate == "newest")
            within = staged.window.condition
            return await overwrite.overwrite(warehouse, target, staged.shape, staged.keys, load, within, kept)
        case Append():
            return await write.append(warehouse, target, staged.shape, staged.keys)
        case Merge():
            return await write.merge(warehouse, target, staged.shape, staged.keys, tombstones=staged.tombstones)
