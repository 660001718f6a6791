"""Documents of quarantined rows, as SQL that makes rows of them again.

A document is what `row_document` made of a row: jsonb, in which json is text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.declare.rule import Rule
from flows.quality.rules import first_broken
from flows.values.identifiers import quote_identifier, quote_literal

_JSON = ("json", "json[]")


@dataclass(frozen=True, slots=True)
class Documents:
    """Rows of a relation's type from documents. `columns` are those to be filled, with their types."""

    relation: str
    columns: Mapping[str, str]

    @property
    def names(self) -> str:
        """The columns' names, as a SQL array."""
        return f"array[{', '.join(map(quote_literal, self.columns))}]::text[]"

    def _without_json(self, document: str) -> str:
        names = [quote_literal(name) for name, kind in self.columns.items() if kind in _JSON]
        return f"({document} - array[{', '.join(names)}])" if names else document

    def fits(self, document: str) -> str:
        """SQL: every value of the document is one of its column's type."""
        parts = [f"jsonb_populate_record_valid(null::{self.relation}, {self._without_json(document)})"]
        for name, kind in self.columns.items():
            text = f"({document} ->> {quote_literal(name)})"
            if kind == "json":
                parts.append(f"coalesce(pg_input_is_valid({text}, 'json'), true)")
            elif kind == "json[]":
                each = f"select bool_and(coalesce(pg_input_is_valid(e, 'json'), true)) from {_elements(document, name)}"
                parts.append(f"coalesce(({each}), true)")
        return f"({' and '.join(parts)})"

    def misfit(self, document: str) -> str:
        """SQL for the first column, by name, whose value is none of its type."""
        one = f"jsonb_build_object(m.key, {document} -> m.key)"
        fits = f"jsonb_populate_record_valid(null::{self.relation}, {one})"
        kinds = [quote_literal(name) for name, kind in self.columns.items() if kind in _JSON]
        if kinds:
            fits = f"case when m.key in ({', '.join(kinds)}) then false else {fits} end"
        return f"(select min(m.key) from jsonb_object_keys({document}) as m (key) where m.key = any({self.names}) "\
            f"and not {fits})"  # fmt: skip

    def unknown(self, document: str) -> str:
        """SQL for the first name, in order, of a value for which there is no column; null if there is none."""
        return (
            f"(select min(u.key) from jsonb_each({document}) as u where u.value <> 'null' "
            f"and u.key <> all({self.names}))"
        )

    def changed(self, document: str, row: str) -> str:
        """SQL for the first column whose value in `row` is another than in the document, as `007` is not 7.

        A text counts as the number or other value that is written like it.
        """
        names = [quote_literal(name) for name, kind in self.columns.items() if kind not in _JSON]
        back = f"to_jsonb({row})"
        return (
            f"(select min(c.key) from jsonb_each({document}) as c where c.value <> 'null' "
            f"and c.key = any(array[{', '.join(names)}]::text[]) and c.value <> {back} -> c.key "
            f"and {document} ->> c.key <> {back} ->> c.key)"
        )

    def row(self, document: str, alias: str) -> str:
        """SQL to join: the document as a row of that alias; all of it is null if a value does not fit."""
        given = f"case when {self.fits(document)} then {self._without_json(document)} else '{{}}' end"
        return f"cross join lateral jsonb_populate_record(null::{self.relation}, {given}) as {alias}"

    def values(self, document: str, alias: str) -> list[str]:
        """SQL for each column's value, from the row of that alias and the document."""
        return [f"{self._value(document, alias, name)} as {quote_identifier(name)}" for name in self.columns]

    def _value(self, document: str, alias: str, name: str) -> str:
        kind = self.columns[name]
        if kind not in _JSON:
            return f"{alias}.{quote_identifier(name)}"
        value = f"({document} ->> {quote_literal(name)})::json"
        if kind == "json[]":
            present = f"jsonb_typeof({document} -> {quote_literal(name)}) = 'array'"
            value = f"case when {present} then array(select e::json from {_elements(document, name)}) end"
        return f"case when {self.fits(document)} then {value} end"

    def broken(self, document: str, alias: str, rules: tuple[Rule, ...]) -> str:
        """SQL for the first rule that the row of that alias breaks, or null."""
        return f"(select {first_broken(rules)} from (select {', '.join(self.values(document, alias))}) as checked)"


def _elements(document: str, name: str) -> str:
    value = f"{document} -> {quote_literal(name)}"
    array = f"case when jsonb_typeof({value}) = 'array' then {value} else '[]' end"
    return f"jsonb_array_elements_text({array}) as e"
