"""Texts of a file → texts that PostgreSQL reads: decimals, dates and masks; and which of them surely are values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.access.mask_key import mask_key
from flows.declare.mask import Hashed, Mask
from flows.kinds.files.formats import DATE_PARTS, Csv
from flows.kinds.files.table import FileTable
from flows.kinds.files.types import OFFSET, Type, type_of
from flows.values.identifiers import quote_literal

#: Before a text that is not written as declared, so that no type takes it.
_NOT = "?"
_ISO = ("YYYY", "MM", "DD", "HH24", "MI", "SS")


@dataclass(frozen=True, slots=True)
class Values:
    """How the values of one column are read. `type` is that of the values; a masked column is text whatever it is.

    `is_checked`: the format's reader leaves no value that is none of the type.
    """

    name: str
    type: Type
    csv: Csv
    mask: Mask | None = None
    is_checked: bool = False

    @property
    def keeps_original(self) -> bool:
        """Whether a refused row shows the value as it was written."""
        return self.mask is None and not self.type.is_text and not self.is_checked

    @property
    def raw_type(self) -> str:
        """The column's type in raw."""
        return "text" if self.mask is not None else self.type.name

    def texts(self, column: Any, *, quoted: bool) -> Any:
        """The column as PostgreSQL reads it. `quoted`: it may have quoted empty texts, which no type but text has."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.mask is not None:
            return _each_once(column, mask_key().hash if isinstance(self.mask, Hashed) else self.mask.of)
        if self.type.is_text or self.is_checked:
            return column
        if quoted:
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        if self.type.is_number:
            return self._number(column)
        if self.type.is_moment and self.csv.dates is not None:
            column = self._iso(column)
        if self.type.has_zone and self.csv.zone is not None:
            has = pc.match_substring_regex(column, f"{OFFSET}$")
            column = pc.if_else(has, column, pc.binary_join_element_wise(column, self.csv.zone, " "))
        return column

    def surely(self, column: Any) -> Any:
        """Which texts surely are values; None: all."""
        import pyarrow.compute as pc

        if self.type.is_text or self.mask is not None or self.is_checked:
            return None
        if not self.type.plain:
            return column.is_null()
        return pc.fill_null(pc.match_substring_regex(column, f"^(?:{self.type.plain}){self._zone}$"), True)

    def valid(self, text: str) -> str:
        """SQL: the text is null, or a value of the type."""
        if self.type.is_text or self.mask is not None:
            return "true"
        name = quote_literal(self.type.name)
        cases = [f"when {text} is null then true"]
        if accepted := self.type.accepted:
            written = quote_literal(f"^(?:{accepted}){self._zone}$")
            cases.append(f"when {text} !~* {written} then false")
        cases.append(f"when not pg_input_is_valid({text}, {name}) then false")
        if self.type.scale is not None:
            cases.append(f"when scale(trim_scale({text}::numeric)) > {self.type.scale} then false")
        return f"(case {' '.join(cases)} else true end)"

    @property
    def _zone(self) -> str:
        """As a regular expression: what follows a time that needs a zone."""
        if not self.type.has_zone:
            return ""
        return OFFSET if self.csv.zone is None else f"({OFFSET}| {re.escape(self.csv.zone)})"

    def _number(self, column: Any) -> Any:
        import pyarrow.compute as pc

        decimal, thousands = self.csv.decimal, self.csv.thousands
        if thousands:
            mark, point = re.escape(thousands), re.escape(decimal)
            grouped = pc.match_substring_regex(column, rf"^[+-]?\d{{1,3}}({mark}\d{{3}})+({point}\d*)?$")
            column = pc.if_else(grouped, pc.replace_substring(column, thousands, ""), column)
        if decimal == ",":
            # A point is no decimal point here: it must not become one.
            column = pc.replace_substring(pc.replace_substring(column, ".", _NOT), ",", ".")
        return column

    def _iso(self, column: Any) -> Any:
        import pyarrow.compute as pc

        expression, replacement = _dates(str(self.csv.dates), with_time=self.type.name != "date")
        fits = pc.match_substring_regex(column, expression)
        iso = pc.replace_substring_regex(column, expression, replacement)
        return pc.if_else(fits, iso, pc.binary_join_element_wise(_NOT, column, ""))


def values_of(table: FileTable, names: Sequence[str], typed: Mapping[str, str]) -> list[Values]:
    """How the columns of that name are read. `typed` are those to which the file gives a type, and none is declared."""
    written, payload = table.format.written, table.payload
    return [
        Values(name, Type(typed[name], "", ""), written, table.masked.get(name), is_checked=True)
        if name in typed and name not in table.columns
        else Values(name, type_of(table.raw_type(name)), written, table.masked.get(name), is_checked=name == payload)
        for name in names
    ]


def _dates(form: str, *, with_time: bool) -> tuple[str, str]:
    """The declared form as an expression of RE2, and the replacement that makes it ISO. What follows is kept."""
    parts, groups, at = [], dict[str, int](), 0
    for found in re.finditer("|".join(DATE_PARTS), form):
        parts.append(re.escape(form[at : found.start()]))
        at = found.end()
        groups[found[0]] = len(groups) + 1
        parts.append(rf"(\d{{{DATE_PARTS[found[0]]}}})")
    expression = "".join([*parts, re.escape(form[at:])])
    iso = rf"\{groups['YYYY']}-\{groups['MM']}-\{groups['DD']}"
    times = [rf"\{groups[name]}" for name in _ISO[3:] if name in groups]
    if times and with_time:
        iso += " " + ":".join(times if len(times) > 1 else [*times, "00"])
    return f"^{expression}$", iso


def _each_once(column: Any, way: Callable[[str], str]) -> Any:
    """Only distinct values become Python objects."""
    import pyarrow as pa

    encoded = column.dictionary_encode()
    made = pa.array([way(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return made.take(encoded.indices)
