"""Erased subjects that a source brings back: recognised by the hashes of the log, and erased again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.subject import Subject
from flows.privacy import record
from flows.privacy.places import QUARANTINE, Place, find_documents, find_places
from flows.privacy.record import Returning
from flows.privacy.references import Traces, form_of
from flows.privacy.rows import delete_rows
from flows.privacy.statistics import refresh
from flows.privacy.traces import form_of_key, gather
from flows.sources.subjects import SUBJECTS

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def erase_returned_since_last_build() -> int:
    """Erase subjects again that reappeared since models were last built: by a load that died before its check, a
    backfill, a repair, a row released from quarantine, a restore. Returns how many.

    Raises:
        ConfigurationError: subjects were erased, and the key for hashing them is not configured, or another one.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        batches = await record.batches_since_last_build(loader)
    return sum([await erase_returned(source, numbers) for source, numbers in batches.items()])


async def erase_returned(source: str, batches: list[int]) -> int:
    """Erase subjects again that these batches of the source brought back. Returns how many.

    Without any erasure in the log it costs one query.

    Raises:
        ConfigurationError: subjects were erased, and the key for hashing them is not configured, or another one.
    """
    return await _erase_again(f"raw_{source}", batches) if batches else 0


async def erase_everywhere_again() -> int:
    """Erase subjects again wherever raw and quarantine have them: after a restore, whose rows no load brought. Returns
    how many.

    Raises:
        ConfigurationError: as above.
    """
    return await _erase_again("", None)


async def _erase_again(schema: str, batches: list[int] | None) -> int:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        returned = 0
        places: list[Place] = []
        for subject in SUBJECTS:
            hashes = await record.known_hashes(loader, subject)
            if not hashes:
                continue
            secret = await record.secret_of(loader)
            role = await loader.fetchval("select current_user")
            places = places or [place for place in await find_places(loader) if place.owner == role]
            looked = [place for place in places if place.told == QUARANTINE or place.schema == schema
                      or (not schema and place.schema.startswith("raw_"))]  # fmt: skip
            # Texts with documents are looked for where they are deleted, too.
            looked = await find_documents(loader, looked)
            returned += await _erase_subject(loader, subject, secret, (places, looked), batches)
        return returned


async def _erase_subject(
    loader: Connection[Record],
    subject: Subject,
    secret: bytes,
    tables: tuple[list[Place], list[Place]],
    batches: list[int] | None,
) -> int:
    places, looked = tables
    again: set[str] = set()
    form = form_of_key([places], subject)
    known = Returning(subject, subject.key, form, await record.known_hashes(loader, subject))
    keys: set[str] = set()
    for place in looked:
        keys |= await record.erased_keys(loader, place, known, secret, batches)
    if keys:
        places = await find_documents(loader, places)
    for key in sorted(keys):
        traces = await gather([loader], [places], subject, key, form)
        key_hash = record.hash_key(secret, subject, key)
        async with loader.transaction():
            await record.write_links(loader, secret, subject, key_hash, traces.values)
            gone = await delete_rows(loader, places, subject, traces)
            await refresh(loader, [line.place for line in gone])
            rows = {line.place.told: line.rows for line in gone}
            await record.write_event(loader, subject, key_hash, "returned", rows)
        again.add(key_hash)
    # Rows that tell only to what they belong: a line of a basket, without the basket.
    for name in subject.linked:
        link = Returning(subject, name, form_of(places, name), await record.known_hashes(loader, subject, name))
        values: set[str] = set()
        for place in looked:
            if _tells_by(place, subject, name):
                values |= await record.erased_keys(loader, place, link, secret, batches)
        if not values:
            continue
        owners = await record.owners_of_links(loader, secret, subject, name, values)
        async with loader.transaction():
            traces = Traces({name: sorted(values)}, [], {name: link.form})
            gone = await delete_rows(loader, places, subject, traces)
            await refresh(loader, [line.place for line in gone])
            rows = {line.place.told: line.rows for line in gone}
            for owner in sorted(owners):
                await record.write_event(loader, subject, owner, "returned", rows if len(owners) == 1 else {})
        again |= owners
    return len(again)


def _tells_by(place: Place, subject: Subject, link: str) -> bool:
    """Whether rows are to be recognised by this link. Rows with the subject's key are by that, and of several links the
    first is enough: hashing each number of a line took a minute for a million, their baskets a tenth of it."""
    if place.documents:
        return True
    return subject.key not in place.columns and next((n for n in subject.linked if n in place.columns), None) == link
