"""Compare two relations, before and after a change: rows, columns, totals, keys.

Everything is counted in the warehouse; no value of a row leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.models.relation_columns import relation_columns
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Address = tuple[str, str]
_NUMERIC = ("integer", "bigint", "smallint", "numeric", "double precision", "real", "money")
# Numbers that are identifiers: their sum is meaningless.
_NAMES = ("_id", "_key", "_rank", "_number", "_year", "_month", "_week", "_quarter")
# Types without equality.
_WITHOUT_EQUALITY = ("json", "xml", "point", "polygon")


@dataclass(frozen=True, slots=True)
class Total:
    """The sums of a numeric column before and after. None if no row has a value."""

    column: str
    before: Decimal | None
    after: Decimal | None


@dataclass(frozen=True, slots=True)
class Keys:
    """Rows compared by key. `changed_columns` counts the differing rows per column, most first.

    `ambiguous` rows share their key with another row, before or after; they are not compared.
    """

    columns: tuple[str, ...]
    added: int
    removed: int
    changed: int
    ambiguous: int
    changed_columns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """The effect of a change on one relation. Rows are None if it does not exist on that side."""

    rows_before: int | None
    rows_after: int | None
    columns_added: tuple[tuple[str, str], ...] = ()
    columns_removed: tuple[tuple[str, str], ...] = ()
    columns_retyped: tuple[tuple[str, str, str], ...] = ()
    totals: tuple[Total, ...] = ()
    keys: Keys | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs, as far as it was compared."""
        keys = self.keys
        return (
            self.rows_before == self.rows_after
            and not (self.columns_added or self.columns_removed or self.columns_retyped)
            and all(total.before == total.after for total in self.totals)
            and (keys is None or not (keys.added or keys.removed or keys.changed))
        )


async def compare(
    connection: Connection[Record], before: Address | None, after: Address | None, key: Sequence[str] = ()
) -> Difference:
    """Compare two relations, each as (schema, name); None for a missing one.

    Audit columns, which begin with `_`, are not compared row by row.
    """
    old = await relation_columns(connection, *before) if before else {}
    new = await relation_columns(connection, *after) if after else {}
    if not old or not new or before is None or after is None:
        return Difference(
            await _count(connection, before) if before and old else None,
            await _count(connection, after) if after and new else None,
            columns_added=tuple(new.items()),
            columns_removed=tuple(old.items()),
        )
    common = [name for name in old if name in new]
    retyped = tuple((name, old[name], new[name]) for name in common if old[name] != new[name])
    summed = [name for name in common if _is_amount(name, old[name]) and _is_amount(name, new[name])]
    first, second = await _sums(connection, before, summed), await _sums(connection, after, summed)
    usable = bool(key) and set(key) <= set(common) and not set(key) & {name for name, *_ in retyped}
    return Difference(
        first.pop(0),
        second.pop(0),
        columns_added=tuple((name, kind) for name, kind in new.items() if name not in old),
        columns_removed=tuple((name, kind) for name, kind in old.items() if name not in new),
        columns_retyped=retyped,
        totals=tuple(
            Total(name, _decimal(one), _decimal(other)) for name, one, other in zip(summed, first, second, strict=True)
        ),
        keys=await _by_key(connection, before, after, tuple(key), _content(common, key, old, new)) if usable else None,
    )


async def _count(connection: Connection[Record], relation: Address) -> int:
    return int(await connection.fetchval(f"select count(*) from {qualified(*relation)}") or 0)


async def _sums(connection: Connection[Record], relation: Address, columns: Sequence[str]) -> list[int]:
    sums = "".join(f", sum({quote_identifier(column)})" for column in columns)
    row = await connection.fetchrow(f"select count(*){sums} from {qualified(*relation)}")
    return list(row.values()) if row else []


def _decimal(value: object) -> Decimal | None:
    # Sums of floating-point numbers depend on the order of rows: beyond 12 digits they are not comparable.
    if isinstance(value, float):
        return Decimal(f"{value:.12g}")
    return None if value is None else Decimal(str(value))


def _is_amount(name: str, kind: str) -> bool:
    return kind.startswith(_NUMERIC) and not name.startswith("_") and not name.endswith(_NAMES)


def _content(
    common: Sequence[str], key: Sequence[str], old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, str]:
    """The columns compared row by row, each with the cast that makes both sides comparable."""
    content = {}
    for name in common:
        if name in key or name.startswith("_"):
            continue
        plain = old[name] == new[name] and not old[name].startswith(_WITHOUT_EQUALITY)
        jsonb = old[name] == new[name] == "jsonb"
        content[name] = "" if plain or jsonb else "::text"
    return content


async def _by_key(
    connection: Connection[Record], before: Address, after: Address, key: tuple[str, ...], content: Mapping[str, str]
) -> Keys:
    ambiguous = [await _ambiguous(connection, relation, key) for relation in (before, after)]
    old, new = (_once(relation, key, bool(count)) for relation, count in zip((before, after), ambiguous, strict=True))
    first = quote_identifier(key[0])
    joined = " and ".join(f"o.{column} = n.{column}" for column in map(quote_identifier, key))
    conditions = {
        name: f"o.{quote_identifier(name)}{cast} is distinct from n.{quote_identifier(name)}{cast}"
        for name, cast in content.items()
    }
    differs = "".join(f", {condition} as d{place}" for place, condition in enumerate(conditions.values()))
    counted = "".join(f", count(*) filter (where at_both and d{place})" for place in range(len(conditions)))
    anything = " or ".join(f"d{place}" for place in range(len(conditions))) or "false"
    row = await connection.fetchrow(
        f"with pairs as (select o.{first} is null as added, n.{first} is null as removed, "
        f"o.{first} is not null and n.{first} is not null as at_both{differs} "
        f"from {old} as o full join {new} as n on {joined}) "
        "select count(*) filter (where added), count(*) filter (where removed), "
        f"count(*) filter (where at_both and ({anything})){counted} from pairs"
    )
    added, removed, changed, *each = row.values() if row else (0, 0, 0)
    found = {name: int(count) for name, count in zip(conditions, each, strict=True) if count}
    worst = dict(sorted(found.items(), key=lambda item: -item[1]))
    return Keys(key, int(added), int(removed), int(changed), sum(ambiguous), worst)


async def _ambiguous(connection: Connection[Record], relation: Address, key: Sequence[str]) -> int:
    """Rows that share their key with another, or whose key has a null."""
    columns = [quote_identifier(column) for column in key]
    missing = " or ".join(f"{column} is null" for column in columns)
    found = await connection.fetchval(
        f"select sum(copies) from (select count(*) as copies, {missing} as missing "
        f"from {qualified(*relation)} group by {', '.join(columns)}) as counted where copies > 1 or missing"
    )
    return int(found or 0)


def _once(relation: Address, key: Sequence[str], some_twice: bool) -> str:
    """The relation, or only its rows with a unique key: others would be compared with each of their copies."""
    if not some_twice:
        return qualified(*relation)
    columns = [quote_identifier(column) for column in key]
    present = " and ".join(f"{column} is not null" for column in columns)
    return (
        f"(select * from (select *, count(*) over (partition by {', '.join(columns)}) as medallion_copies "
        f"from {qualified(*relation)}) as counted where medallion_copies = 1 and {present})"
    )
