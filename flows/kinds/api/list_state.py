"""The progress of reading an endpoint's list, in `ops.list_reads`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Gathered:
    """What has landed and is not published: `rows` of `pages` in the landing table with oid `landing`.

    `lists` are parents' lists read to their end; `unreadable` records are stored next to it for quarantine.

    `place` is the position after them, unless the list has `ended`. `token` and `etag` of the list's pages are valid
    once it has been read. `is_first`: no list of the endpoint has been read to its end yet. `learned` is what its
    records showed of their fields (`RecordFields.facts`), stored when they are published.

    `unproven` lists ended, and the API has not shown that it is their end: they show no deletes. `refused` are the keys
    of parents whose lists could not be read, `redone` those of them that were read since; `outcomes` counts refusals of
    this list by status. `ignored` and `skipped` count answers and lists that were, as declared.
    `parts` are the latest values of the cursor by partition; `held` are those of which a list was skipped, as
    `Page.parent` names them: their cursors stay. `batch` is the first that published some of the list.
    `refuses` is the last parent that refused a list.
    `total` is the API's count on the last page of the full list, `least_total` and `most_total` are the lowest and the
    highest one; `last` is the place of its last page that had records, None if that was the first one.
    """

    landing: int | None = None
    rows: int = 0
    pages: int = 0
    received: int = 0
    lists: int = 0
    unreadable: int = 0
    place: dict[str, Any] | None = None
    ended: bool = False
    unchanged: bool = False
    token: str | None = None
    etag: str | None = None
    is_first: bool = False
    learned: dict[str, Any] | None = None
    unproven: int = 0
    refused: tuple[tuple[str, ...], ...] = ()
    redone: tuple[tuple[str, ...], ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)
    ignored: int = 0
    skipped: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    batch: int | None = None
    refuses: tuple[str, ...] = ()
    total: int | None = None
    least_total: int | None = None
    most_total: int | None = None
    last: dict[str, Any] | None = None

    @property
    def shows_no_deletes(self) -> bool:
        """Whether something of the list is missing, or may be."""
        return bool(self.unproven or self.skipped)

    @property
    def rest(self) -> Gathered | None:
        """What remains of it when the list is over: parents to be requested again."""
        return Gathered(refused=self.refused) if self.refused else None


@dataclass(frozen=True, slots=True)
class ListRead:
    """One endpoint's row. While `place` is set, the list is being read, and reading goes on there.

    `declared` is a fingerprint of the declaration: a place is valid only for the same one. `since` is the requested
    lower bound, `etag` that of the last list read completely, `reached` the latest cursor seen, `ceiling` the API's
    clock at the start of the list. `gathered`: landed and not published up to `place`.
    """

    declared: str
    since: str | None = None
    etag: str | None = None
    place: dict[str, Any] | None = None
    reached: str | None = None
    ceiling: str | None = None
    gathered: Gathered | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there is a position to resume from."""
        gathered = self.gathered
        return self.place is not None or (gathered is not None and gathered != gathered.rest)


async def read(connection: Connection[Record], source: str, table: str, fresh: timedelta) -> ListRead | None:
    """The state of the endpoint's list. A place older than `fresh` is discarded: page tokens expire."""
    row = await connection.fetchrow(
        "select declared, since, etag, reached, ceiling, place::text, gathered::text, "
        "updated_at > clock_timestamp() - $3::interval as is_fresh from ops.list_reads "
        "where source_system = $1 and table_name = $2",
        source,
        table,
        fresh,
    )
    if row is None:
        return None
    known = ListRead(row["declared"], row["since"], row["etag"], None, row["reached"], row["ceiling"])
    gathered = _gathered(json.loads(row["gathered"] or "null"))
    if not row["is_fresh"]:
        return replace(known, gathered=gathered and gathered.rest)
    return replace(known, place=json.loads(row["place"] or "null"), gathered=gathered)


def _gathered(facts: dict[str, Any] | None) -> Gathered | None:
    if facts is None:
        return None
    keys = {name: tuple(tuple(key) for key in facts.pop(name, ())) for name in ("refused", "redone")}
    names = {name: tuple(facts.pop(name, ())) for name in ("held", "refuses")}
    return Gathered(**(facts | keys | names))


async def save(connection: Connection[Record], source: str, table: str, batch_id: int, known: ListRead) -> None:
    """Store it, in the transaction that lands or publishes its rows."""
    await connection.execute(
        "insert into ops.list_reads (source_system, table_name, declared, since, etag, place, reached, ceiling, "
        "gathered, batch_id) values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9::text::jsonb, $10) "
        "on conflict (source_system, table_name) do update set declared = excluded.declared, since = excluded.since, "
        "etag = excluded.etag, place = excluded.place, reached = excluded.reached, ceiling = excluded.ceiling, "
        "gathered = excluded.gathered, batch_id = excluded.batch_id, updated_at = clock_timestamp()",
        source,
        table,
        known.declared,
        known.since,
        known.etag,
        None if known.place is None else json.dumps(known.place),
        known.reached,
        known.ceiling,
        None if known.gathered is None else json.dumps(asdict(known.gathered)),
        batch_id,
    )


async def forget_gathered(connection: Connection[Record], source: str, table: str) -> None:
    """Discard what has landed: it was refused. Parents that are to be requested again remain."""
    await connection.execute(
        "update ops.list_reads set gathered = case when gathered -> 'refused' <> '[]' "
        "then jsonb_build_object('refused', gathered -> 'refused') end where source_system = $1 and table_name = $2",
        source,
        table,
    )
