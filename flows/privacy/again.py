"""Erasing again after a restore: the warehouse is as it was before people were erased from it."""

from __future__ import annotations

from pathlib import Path

from flows.access import addresses
from flows.privacy import kept_log, record
from flows.privacy.elsewhere import Elsewhere
from flows.privacy.erase import Erasure, erase
from flows.privacy.record import Returning
from flows.privacy.returned import erase_everywhere_again
from flows.privacy.sides import Sides
from flows.privacy.traces import form_of_key
from flows.sources.subjects import SUBJECTS
from flows.state import ledger


async def erase_again(log: Path | None = None, elsewhere: Elsewhere | None = None) -> list[Erasure]:
    """Erase everybody again whom the log, or its copy in the home, knows and whom some table has. Takes no keys: they
    are recognised by their hashes.

    Raises:
        DataRefused: the copy of the log cannot be read.
        ConfigurationError: the key for hashing is not the one that they were erased with.
        LoadLocked: as `erase`.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        await ledger.ensure_schema(loader)
        await kept_log.read_back(loader, log)
    done = []
    for subject in SUBJECTS:
        keys: set[str] = set()
        async with Sides.open() as sides:
            hashes = await record.known_hashes(sides.loader, subject)
            if not hashes:
                continue
            secret = await record.secret_of(sides.loader)
            sought = Returning(subject, subject.key, form_of_key(sides.seen, subject), hashes)
            for connection, places in zip(sides.opened, sides.seen, strict=True):
                for place in places:
                    if place.readable:
                        keys |= await record.erased_keys(connection, place, sought, secret, None)
        done += [await erase(subject, key, despite_source=True, elsewhere=elsewhere) for key in sorted(keys)]
    # Rows that tell only what they belong to.
    await erase_everywhere_again()
    return done
