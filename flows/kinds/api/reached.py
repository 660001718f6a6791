"""How far a list has been read: the latest value of its cursor, and of each of its partitions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.kinds.api import Endpoint, Since
from flows.kinds.api.clocks import Clocks
from flows.kinds.api.declared.parts import copied_text
from flows.kinds.api.list_state import Gathered
from flows.kinds.api.pages.parts import part_name
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def starts(endpoint: Endpoint, state: CursorState) -> dict[str, str]:
    """Where each list starts, as values of the cursor's column; those that are not named start at the beginning."""
    cursor = endpoint.cursor
    if not isinstance(cursor, Since) or state.value is None:
        return {}
    if not endpoint.partitions:
        return {part_name(()): cursor.lower(state.value)}
    known: Mapping[str, str] = state.identity.get("parts", {})
    if "parts" not in state.identity and "set" in state.identity:
        # A person has set the cursor: that of all partitions.
        known = {part_name(combination): state.value for combination in endpoint.combinations}
    return {name: cursor.lower(value) for name, value in known.items()}


async def latest(
    warehouse: Connection[Record], landing: str, endpoint: Endpoint, ceiling: str | None, known: str | None
) -> str | None:
    """The highest cursor of known and landed records, below the API's clock at the start of the list.

    A record with a timestamp in the future would otherwise move the cursor past everything until then.
    """
    cursor = endpoint.cursor
    if not isinstance(cursor, Since) or endpoint.parent is not None:
        return known
    now = datetime.now(UTC)
    if cursor.is_time:
        ceiling = cursor.at(min(now, datetime.fromisoformat(ceiling) if ceiling else now))
    column, order = _column(cursor)
    bound, least = (
        "null" if value is None else f"{quote_literal(value)}::{cursor.raw_type}{order}" for value in (ceiling, known)
    )
    found: str | None = await warehouse.fetchval(
        # least() ignores nulls: without the case, records without a valid cursor would move it to the bound.
        f"select greatest(case when {column} is not null then least({column}, {bound}) end, {least})::text "
        f"from {landing}"
    )
    return found


def _column(cursor: Since) -> tuple[str, str]:
    # By its bytes: an order of texts that a locale decides is another one than the API's.
    order = ' collate "C"' if cursor.form == "text" else ""
    return f"max({quote_identifier(cursor.column)}{order})", order


async def by_part(
    warehouse: Connection[Record], landing: str, endpoint: Endpoint, gathered: Gathered
) -> Mapping[str, str]:
    """The latest value of each partition, of those that were published and of those in the landing table."""
    cursor = endpoint.cursor
    if not endpoint.partitions or not isinstance(cursor, Since):
        return gathered.parts
    columns = ", ".join(f"{quote_identifier(part.name)}::text" for part in endpoint.partitions)
    found = await warehouse.fetch(
        f"select array[{columns}] as part, {_column(cursor)[0]}::text as latest from {landing} group by 1"
    )
    landed = {
        part_name(tuple(row["part"])): row["latest"] for row in found if None not in (*row["part"], row["latest"])
    }
    return _merged(cursor, gathered.parts, landed)


def parts_of(endpoint: Endpoint, state: CursorState, gathered: Gathered, ceiling: str | None) -> dict[str, Any]:
    """What is stored next to the cursor: those of partitions, or the clocks that limit those of parents.

    They move when all lists have been read, and not past the API's clock when they began. That of a partition of which
    a list was skipped stays.
    """
    cursor = endpoint.cursor
    if endpoint.parent is not None and isinstance(cursor, Since):
        clocks = Clocks.of(state.identity)
        if gathered.ended and gathered.batch is not None and ceiling is not None:
            clocks = clocks.after(gathered.batch, ceiling)
        return clocks.facts()
    if not endpoint.partitions or not isinstance(cursor, Since):
        return {}
    known: Mapping[str, str] = state.identity.get("parts", {})
    if not gathered.ended:
        return {"parts": dict(known)}
    # What a skipped list lacks may be older than the pages before, or than the partition's later windows.
    held = {part_name(values) for values in endpoint.combinations if copied_text(values) in gathered.held}
    bound = cursor.at(datetime.fromisoformat(ceiling)) if ceiling is not None and cursor.is_time else None
    read = {
        name: bound if bound is not None and _is_later(cursor, value, bound) else value
        for name, value in gathered.parts.items()
        if name not in held
    }
    return {"parts": _merged(cursor, known, read)}


def _merged(cursor: Since, before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """The later value of each partition."""
    later = {name: value for name, value in found.items() if _is_later(cursor, value, before.get(name))}
    return {**before, **later}


def _is_later(cursor: Since, value: str, other: str | None) -> bool:
    if other is None:
        return True
    one, two = cursor.order(value), cursor.order(other)
    if isinstance(one, datetime) and isinstance(two, datetime):
        return one > two
    if isinstance(one, int) and isinstance(two, int):
        return one > two
    return str(one) > str(two)
