"""Convert a landing table with the source's changed columns to raw's columns.

    a column that raw does not have     rows with a value in it do not fit
    a column of another type            rows whose value is not one of raw's type do not fit; the others are converted

Such a row breaks the rule `drift:<column>`; the source's value is kept for the quarantine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.declare.rule import Rule
from flows.landing.table import SchemaChange, Target
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import Column, Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

PREFIX = "drift:"

_RULE = "_drift_rule"
_DECIMAL = re.compile(r"numeric(\(\d+,-?\d+\))?")
_NUMBER = re.compile(rf"smallint|integer|bigint|real|double precision|{_DECIMAL.pattern}")
_MOMENT = re.compile(r"date|(time|timestamp)(\(\d\))? with(out)? time zone")


@dataclass(frozen=True, slots=True)
class DriftRule(Rule):
    """A rule about a column of the source, with any name."""

    def __post_init__(self) -> None:
        """No validation: the rule is generated."""


@dataclass(frozen=True, slots=True)
class _Exact:
    """SQL over a column: whether raw's type can represent its value exactly (null: yes), and the converted value."""

    fits: str
    value: str


def exact(column: str, new: str, old: str) -> _Exact:
    """How a column of type `new`, given as SQL, is converted to type `old`, for values that lose nothing.

    Numbers are compared as numbers: 12.00 is an integer, 12.5 is not. Text is a number, date or other value only if it
    is written as PostgreSQL writes it: 007 stays text. Timestamps must round-trip; one with a time zone and one
    without never match, since that would need a guess.
    """
    text, back = f"{column}::text", "{value}::text = {text}"
    if _NUMBER.fullmatch(new) and _NUMBER.fullmatch(old):
        # Through their shortest text: floating-point numbers cast to numeric directly lose digits.
        text, back = f"trim_scale({column}::text::numeric)::text", "{value}::text::numeric = ({text})::numeric"
    elif _DECIMAL.fullmatch(old):
        back = "({value}::text = {text} or trim_scale({value})::text = {text})"
    elif _MOMENT.fullmatch(new) and _MOMENT.fullmatch(old):
        if ("with time zone" in new) != ("with time zone" in old):
            return _Exact(f"{column} is null", f"null::{old}")
        back = f"case when pg_input_is_valid({{value}}::text, {quote_literal(new)}) "
        back += f"then ({{value}}::text)::{new}::text = {{text}} else false end"
    value = f"({text})::{old}"
    valid = f"pg_input_is_valid({text}, {quote_literal(old)})"
    same = back.format(value=value, text=text)
    return _Exact(f"case when {column} is null then true when {valid} then {same} else false end", value)


async def fit_to_raw(
    connection: Connection[Record], target: Target, shape: Shape, held: Sequence[SchemaChange]
) -> tuple[Shape, tuple[Rule, ...]]:
    """Change the landing table's columns from the source's to raw's. `held` are the changes not applied to raw. Returns
    the landing table's new shape, and the rules that rows which do not fit break.
    """
    drifted = {change.column: change for change in held if change.change in {"added", "retyped"}}
    if not drifted:
        return shape, ()
    alterations, assignments, cases, columns, sent = [f"add column {_RULE} text"], list[str](), list[str](), [], []
    for place, column in enumerate(shape.columns):
        change = drifted.get(column.name)
        if change is None or change.change == "added":
            sent.append(Column(column.name, column.raw_type, quote_identifier(column.name)))
            if change is None:
                columns.append(column)
            else:
                rule = quote_literal(PREFIX + column.name)
                cases.append(f"when {quote_identifier(column.name)} is not null then {rule}")
            continue
        kept, name, old = f"_drift_{place}", quote_identifier(column.name), str(change.old_type)
        await connection.execute(f"alter table {target.landing} rename column {name} to {kept}")
        alterations.append(f"add column {name} {old}")
        turned = exact(kept, column.raw_type, old)
        cases.append(f"when not {turned.fits} then {quote_literal(PREFIX + column.name)}")
        assignments.append(f"{name} = case when {turned.fits} then {turned.value} end")
        columns.append(replace(column, raw_type=old, enum=None, labels=()))
        sent.append(Column(column.name, column.raw_type, kept))
    await connection.execute(f"alter table {target.landing} {', '.join(alterations)}")
    broken = f"case {' '.join(cases)} end"
    # With new columns only, rows without a value in them need no conversion.
    condition = "true" if assignments else f"{broken} is not null"
    await connection.execute(
        f"update {target.landing} set {', '.join([f'{_RULE} = {broken}', *assignments])} where {condition}"
    )
    rules = tuple(
        DriftRule(PREFIX + name, f"{_RULE} is distinct from {quote_literal(PREFIX + name)}") for name in drifted
    )
    return replace(shape, columns=tuple(columns), sent=tuple(sent)), rules
