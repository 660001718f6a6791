"""What a stored cursor belongs to, and whether it may still be trusted.

A cursor says "everything below is in raw", which is true only of the source, the table and the column it was taken
from. So it is stored with them, and with the newest position seen; before a load, they are compared with those of now:

    {"cursor": {"kind": "Timestamp", "column": "updated_at", "type": "timestamp with time zone", …},
     "source": …, "table": …, "columns": …}              by the kind of source
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.access.mask_key import mask_key
from flows.declare.load import Overwrite
from flows.declare.mask import Hashed
from flows.declare.table import Table
from flows.landing.table import Target
from flows.values.errors import DataRefused, DeclarationError
from flows.values.plan import CursorState
from flows.values.shape import Shape
from flows.values.widening import widens

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Two clocks are read one after the other. Less than this is covered by the guard of a second below a horizon.
_CLOCKS_DIFFER = timedelta(seconds=0.5)
_MARGIN = timedelta(seconds=1)
_WORTH_A_WARNING = timedelta(seconds=5)

#: $1 is the raw table.
PRIMARY_KEY = """
select array_agg(a.attname::text order by k.place) as columns
from pg_index as i
cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = to_regclass($1) and i.indisprimary and k.place <= i.indnkeyatts
"""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why rows below a stored cursor may differ from raw's.

    `reason` is a clause: `the source was restored`. `cursor_holds`: later rows are still found by the cursor, so a
    table without a key can go on, and its rows in raw keep their values.
    """

    reason: str
    cursor_holds: bool = False


def declared_cursor(table: Table, shape: Shape) -> dict[str, Any]:
    """The declared cursor as it is stored; empty without one. A lag is no part of what its values mean."""
    if table.cursor is None:
        return {}
    facts = {name: value for name, value in asdict(table.cursor).items() if name != "lag"}
    column = shape.column(table.cursor_column) if table.cursor_column is not None else None
    return {"kind": type(table.cursor).__name__, **facts, "type": column.raw_type if column else None}


def digest(condition: str) -> str:
    """Of a declared condition, which may name a person; empty without one."""
    return hashlib.sha256(condition.encode()).hexdigest()[:16] if condition else ""


def declared_masks(table: Table) -> dict[str, str]:
    """The declared masks as they are stored: those that hash with a fingerprint of the key.

    Raises:
        ConfigurationError: the key is not configured.
    """
    key = f"hashed:{mask_key().fingerprint}" if table.hashes else ""
    return {
        name: key if isinstance(mask, Hashed) else f"masked:{mask.keep}" for name, mask in sorted(table.masked.items())
    }


def refuse_other_masks(state: CursorState, raw: Collection[str], table: Table, where: str) -> None:
    """`raw` are the columns of raw, which was loaded with the stored masks.

    Raises:
        DeclarationError: values of a column in raw are not masked as declared now, or with another key.
        ConfigurationError: the key is not configured.
    """
    stored, now = state.identity.get("masked") or {}, declared_masks(table)
    if not (changed := [name for name in sorted({*stored, *now} & set(raw)) if stored.get(name) != now.get(name)]):
        return
    hashed = all({stored.get(name, "")[:7], now.get(name, "")[:7]} == {"hashed:"} for name in changed)
    what = "the key of the hashes is another one" if hashed else "the masks were changed"
    raise DeclarationError(
        f"{what} since the table was loaded ({', '.join(changed)}), and raw would hold a mix of values",
        where=where,
        fix=f"load a new raw table with `medallion reload {where} --recreate`, which keeps the former one under "
        "another name: drop that one; or declare the former masks, or set MEDALLION_MASK_KEY to the former key",
    )


def cursor_doubt(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Doubt | None:
    """Whether another cursor is declared than the one whose value is stored, or other rows."""
    if "log" in stored and "log" not in now:
        return Doubt("the last load was from the source's log, which has no cursor")
    if (stored.get("where") or "") != (now.get("where") or ""):
        return Doubt("the declared condition was changed since the last load")
    if (stored.get("query") or "") != (now.get("query") or ""):
        return Doubt("the declared query was changed since the last load")
    then, today = stored.get("cursor"), now.get("cursor")
    if not then or not today or then == today:
        return None  # without a cursor every row is read, and a new cursor begins from there
    if {**then, "type": None} == {**today, "type": None} and widens(str(then["type"]), str(today["type"])):
        return None
    return Doubt(f"the cursor was {_said(then)} and is {_said(today)} now")


def _said(cursor: Mapping[str, Any]) -> str:
    column = f'"{cursor["column"]}"' if cursor.get("column") else ""
    more = "".join(f', {name}="{cursor[name]}"' for name in ("unit", "zone") if cursor.get(name))
    return f"{cursor['kind']}({column}{more})" + (f" of type {cursor['type']}" if cursor.get("type") else "")


def can_be_read_again(table: Table) -> bool:
    """Whether rows that are read again replace those in raw, instead of being there twice."""
    return bool(table.keys) or isinstance(table.load, Overwrite)


def untrusted(doubt: Doubt, where: str) -> DataRefused:
    """The error for a table without a key, whose rows cannot be read again."""
    return DataRefused(
        f"{doubt.reason}: its cursor cannot be trusted, and without a key its rows cannot be read again",
        where=where,
        fix=f"load a new raw table with `medallion reload {where} --recreate` (the former one is kept under another "
        f"name), or declare a key",
    )


async def primary_key(warehouse: Connection[Record], target: Target) -> tuple[str, ...]:
    """The columns of raw's key; none without one."""
    return tuple(await warehouse.fetchval(PRIMARY_KEY, target.raw) or ())


async def refuse_other_key(warehouse: Connection[Record], target: Target, keys: tuple[str, ...]) -> None:
    """Raises:
    DeclarationError: raw was loaded with another key than the declared one.
    """
    refuse_key(await primary_key(warehouse, target), target, keys)


def refuse_key(columns: tuple[str, ...], target: Target, keys: tuple[str, ...]) -> None:
    """Raises: DeclarationError: raw was loaded with the key `columns`, and the declared one is another."""
    if set(columns) == set(keys):
        return
    declared, loaded = ", ".join(keys) or "none", ", ".join(columns) or "none"
    raise DeclarationError(
        f"the declared key is {declared}, and raw was loaded with {loaded}",
        where=target.where,
        fix="declare the former key again, or load a new raw table with "
        f"`medallion reload {target.where} --recreate`, which keeps the former one under another name",
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """The warehouse's clock, read once: the time it showed, and the monotonic clock of this process then."""

    shown: datetime
    read: float

    def now(self) -> datetime:
        """What it shows now, without asking again."""
        return self.shown + timedelta(seconds=time.monotonic() - self.read)


async def read_clock(warehouse: Connection[Record]) -> Clock:
    """The warehouse's clock, by which a source's clock is noticed that was set back."""
    shown = await warehouse.fetchval("select clock_timestamp()")
    return Clock(shown, time.monotonic())


@dataclass(frozen=True, slots=True)
class Clocks:
    """The source's clock beside the warehouse's, as stored with a cursor (`seen`, JSON) and compared with the last.

    `back`: by how much the source's was set back since the last load, at most. A row written since then may bear a time
    that is so much earlier than the stored cursor. `warning` says so, if it is more than the ordinary adjustment.
    """

    seen: Mapping[str, str]
    back: timedelta = timedelta(0)
    warning: str | None = None

    @classmethod
    def compared(cls, identity: Mapping[str, Any], now: datetime, clock: Clock | None) -> Clocks:
        """`now` is the source's clock, just read; without a `clock` nothing is compared."""
        if clock is None:
            return cls({})
        ours = clock.now()
        seen = {"clock": now.isoformat(), "warehouse_clock": ours.isoformat()}
        if "clock" not in identity or "warehouse_clock" not in identity:
            return cls(seen)
        then, ours_then = (datetime.fromisoformat(identity[name]) for name in ("clock", "warehouse_clock"))
        moved = (ours - ours_then) - (now - then)
        if moved <= _CLOCKS_DIFFER:
            return cls(seen)
        warning = (
            f"the source's clock was set back by about {moved.total_seconds():.0f} s since the last load: rows of that "
            "time are read again"
        )
        return cls(seen, moved + _MARGIN, warning if moved > _WORTH_A_WARNING else None)


def joined(*warnings: str | None) -> str | None:
    """Several warnings as one."""
    return "; ".join(warning for warning in warnings if warning) or None
