"""A landing table of the source's columns → one of raw's, where the source's have changed and raw keeps its own.

    a column that raw does not have     rows with a value in it do not fit
    a column of another type            rows whose value is not one of raw's type do not fit; the others are converted

The rule that such a row breaks is `drift:<column>`; what the source sent stays beside it, to be kept in quarantine.
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
    """A rule about a column of the source, whose name may be any."""

    def __post_init__(self) -> None:
        """Nothing is refused: no person wrote this rule."""


@dataclass(frozen=True, slots=True)
class _Exact:
    """SQL over a column: whether raw's type holds its value exactly (null: yes), and the value in that type."""

    fits: str
    value: str


def exact(column: str, new: str, old: str) -> _Exact:
    """How a column of type `new`, given as SQL, becomes one of type `old`, for the values that lose nothing by it.

    Numbers are compared as numbers: 12.00 is an integer, 12.5 is not. Text is a number, a date or whatever else only
    when it is written as PostgreSQL writes it: 007 stays text. Moments must come back as they were; one with a zone and
    one without are never the same, since that would take a guess.
    """
    text, back = f"{column}::text", "{value}::text = {text}"
    if _NUMBER.fullmatch(new) and _NUMBER.fullmatch(old):
        # By way of their shortest text: floating-point numbers cast to numeric directly lose digits.
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
    """Give the landing table, which has the source's columns, those of raw. `held` are the changes that raw does not
    take in. Returns the landing table's shape from here on, and the rules that the rows which do not fit break.
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
    # With new columns only, rows without a value in them are left as they landed.
    condition = "true" if assignments else f"{broken} is not null"
    await connection.execute(
        f"update {target.landing} set {', '.join([f'{_RULE} = {broken}', *assignments])} where {condition}"
    )
    rules = tuple(
        DriftRule(PREFIX + name, f"{_RULE} is distinct from {quote_literal(PREFIX + name)}") for name in drifted
    )
    return replace(shape, columns=tuple(columns), sent=tuple(sent)), rules
