"""Quarantined rows loaded again, without bringing back who was erased."""

from __future__ import annotations

from collections.abc import Sequence

from flows.privacy.returned import erase_returned
from flows.verbs.replay import Replayed, replay


async def load_again(names: Sequence[str], by: str, rule: str | None = None) -> list[Replayed]:
    """Load these rows again, as `flows.verbs.replay` does.

    Raises:
        MedallionError: see there; tables that were published before stay.
    """
    done = await replay(names, by, rule)
    for table in done:
        if table.result is not None:
            # A fix may name a person who was erased: they must not come back by it.
            await erase_returned(table.result.source, [table.result.batch_id])
    return done
