"""Row checks on load: which staged rows break which rule, and whether there are too many."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.declare.rule import Rule, Tolerance
from flows.values.asking import refuse
from flows.values.errors import DataRefused
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import KeySet
from flows.values.question import Question
from flows.values.shape import fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A floor must not accept a small read as a whole.
_FLOOR_AT_MOST_ONE_IN = 4


def door_rules(keys: tuple[str, ...], declared: tuple[Rule, ...], cursor: str | None = None) -> tuple[Rule, ...]:
    """The declared rules, after the implicit ones: a row without its key cannot be merged, and an API's record without
    its cursor field would never be read again."""
    present = (
        [Rule("key_present", " and ".join(f"{quote_identifier(key)} is not null" for key in keys))] if keys else []
    )
    if cursor is not None:
        present.append(Rule("cursor_present", f"{quote_identifier(cursor)} is not null"))
    return (*present, *declared)


def first_broken(rules: tuple[Rule, ...]) -> str:
    """SQL for the first rule that a row breaks, or null."""
    # The line break ends a line comment at the end of the condition.
    cases = " ".join(f"when ({rule.condition}\n) is false then {quote_literal(rule.name)}" for rule in rules)
    return f"case {cases} end" if cases else "null::text"


@dataclass(frozen=True, slots=True)
class Survey:
    """The checked landing table: rows per broken rule, the keys of good rows, and all keys."""

    broken: dict[str, int]
    good: KeySet
    all: KeySet


async def survey(
    connection: Connection[Record], landing: str, rules: tuple[Rule, ...], keys: tuple[str, ...] = ()
) -> Survey:
    """Rows and their keys by the first rule that each breaks, in one scan of the landing table."""
    mark = fingerprint([quote_identifier(key) for key in keys]) if keys else "null::numeric"
    records = await connection.fetch(
        f"select {first_broken(rules)} as rule, count(*) as rows, {mark} as mark from {landing} group by 1 order by 1"
    )
    none = KeySet(0, Decimal(0) if keys else None)
    found = {record["rule"]: KeySet(record["rows"], record["mark"]) for record in records}
    return Survey(
        {rule: those.rows for rule, those in found.items() if rule is not None},
        found.get(None, none),
        functools.reduce(KeySet.plus, found.values(), none),
    )


def tolerated(rows_read: int, tolerance: Tolerance) -> int:
    """How many rows of a read may break rules: the share, or in a small read the floor, up to a quarter of it.

    A source with one bad row in a hundred has two or more in every fourth read of a hundred rows, but more than five
    in one of two thousand: the share alone stopped such a table by chance.
    """
    if not tolerance.max_quarantined:
        return 0
    floor = min(tolerance.quarantine_floor, max(1, rows_read // _FLOOR_AT_MOST_ONE_IN))
    return max(int(rows_read * tolerance.max_quarantined), floor)


def judge(
    broken: dict[str, int], rows_read: int, tolerance: Tolerance, *, where: str, landing: str, known: int = 0
) -> None:
    """Accept the rows for quarantine, or stop the load.

    The `known` rows, which are already quarantined unchanged, were counted when they first arrived.

    Raises:
        DataRefused: more rows broke rules than the table tolerates, and no person has allowed it.
    """
    total = sum(broken.values()) - known
    limit = tolerated(rows_read, tolerance)
    if total > limit:
        listed = ", ".join(f"{rule}: {rows}" for rule, rows in broken.items())
        error = DataRefused(
            f"{total} of {rows_read} rows break a rule ({listed}), {limit} are tolerated; nothing was published",
            where=where,
            fix=f"look at the staged rows in {landing}; fix the source or the rule, or raise max_quarantined "
            "or quarantine_floor",
        )
        refuse(error, Question("rejected rows", {}, {"rejected": total, **broken}))
