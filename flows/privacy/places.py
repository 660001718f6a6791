"""Every table of the warehouse that may have rows of a subject, from the catalog rather than from a list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Partitions are reached through their parents. Views show the rows of tables.
_TABLES = """
select
    n.nspname as schema,
    c.relname as name,
    c.relkind = 'm' as derived,
    pg_get_userbyid(c.relowner) as owner,
    -- Models that nobody has read yet made the reviewer's tables: triggers and policies of them would run as who reads.
    has_table_privilege(c.oid, 'select') and has_schema_privilege(n.oid, 'usage')
        and pg_get_userbyid(c.relowner) <> 'medallion_reviewer' as readable,
    array_agg(a.attname::text order by a.attnum) as columns,
    -- A domain by the type that it restricts; a row type, or an array of rows, can be read as a document.
    array_agg(
        case when 'c' in (b.typtype, e.typtype) then 'record' else b.typname::text end order by a.attnum
    ) as types
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
inner join pg_type as t on a.atttypid = t.oid
inner join pg_type as b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
left join pg_type as e on b.typelem = e.oid and b.typcategory = 'A'
where c.relkind in ('r', 'p', 'm') and not c.relispartition
    and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
group by n.oid, n.nspname, c.oid, c.relname, c.relkind, c.relowner
order by n.nspname, c.relname
"""

# These types contain no words, and are most of all columns.
_NUMBERS = frozenset(
    ("int2", "int4", "int8", "float4", "float8", "_float4", "numeric", "bool", "oid", "bytea", "date", "uuid")
)

# Written by the platform from declarations and code: a subject with the name of a source, table or status is not
# meant there. Other values of operations may quote a row.
_OURS = frozenset(
    {"source_system", "table_name", "column_name", "status", "strategy", "volume", "reconciliation",
     "pipeline", "scope", "every", "change", "old_type", "new_type", "failure_class", "severity",
     "location", "gate", "dataset", "check_name", "outcome", "method", "result", "state", "rule",
     "resolution", "row_hash", "place", "declared", "kinds", "models", "commit_sha", "environment",
     "promoted_from", "kind", "measure", "flow_run_id", "correlation_id", "error_id", "worker", "size_reason"}
)  # fmt: skip
#: Names of locks; what the catalogue of a source says of a table, and the declaration; hashes.
_OF_CATALOGUES = frozenset(
    (("ops.locks", "name"), ("ops.cursors", "identity"), ("ops.alerts", "name"), ("ops.alerts", "subject"),
     ("ops.alerts", "reported_by"), ("ops.silences", "pattern"), ("ops.alert_messages", "channel"),
     ("ops.alert_messages", "about"), ("ops.alert_transitions", "transition"), ("ops.watches", "host"),
     ("ops.watches", "version"), ("ops.decisions", "kind"), ("ops.decisions", "subject"),
     ("ops.decisions", "what"), ("ops.decisions", "plan"),
     ("ops.decisions", "plan_digest"), ("ops.decisions", "answered_through"),
     ("ops.files", "content_hash"), ("ops.files", "signature"),
     *(("ops.tunings", name) for name in ("recommendation", "model", "undo", "settings", "before", "expected", "after",
                                          "verdict")),
     ("ops.usage", "kind"), ("ops.usage", "name"),
     ("ops.usage_days", "kind"), ("ops.usage_days", "name"))
)  # fmt: skip
_DOCUMENTS = frozenset(("jsonb", "json", "_jsonb", "_json", "record"))
_TEXTS = frozenset(("text", "varchar", "bpchar"))
_BEGINS_LIKE_ONE = "left(ltrim({column}::text, E' \\t\\n\\r'), 1) in ('{{', '[')"
#: Rows in quarantine.
QUARANTINE = "quarantine.rows"
#: Texts of operations that may quote a row, and stay useful without the word.
TEXTS = {
    "ops.errors": ("what", "fix"),
    "ops.loads": ("error",),
    "ops.circuits": ("what",),
    # A file whose path was changed here is known by its content.
    "ops.files": ("path",),
    "ops.reconciliations": ("note",),
    "ops.check_results": ("measured", "message"),
    "ops.reveals": ("reason",),
    "ops.recoveries": ("reason",),
    "ops.decisions": ("reason",),
    "ops.acceptances": ("reason",),
    "ops.tunings": ("revert_reason",),
    "ops.incidents": ("title",),
    "ops.silences": ("reason",),
    "ops.alerts": ("cause", "what", "fix"),
    "ops.alert_transitions": ("note",),
    "ops.alert_messages": ("subject", "body", "facts", "problem"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """One table: its columns with their type names, its owner, and whether the current role may read it.

    `derived` is a materialized view: it is refreshed instead of deleted from. `texts` are columns of text with
    documents in some row.
    """

    schema: str
    name: str
    owner: str
    readable: bool
    columns: dict[str, str]
    derived: bool = False
    texts: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        """Quoted, for SQL."""
        return qualified(self.schema, self.name)

    @property
    def told(self) -> str:
        """`raw_shop.households`, for people."""
        return f"{self.schema}.{self.name}"

    @property
    def documents(self) -> list[str]:
        """The columns with JSON documents, or with values that can be read as some."""
        return [name for name, type_ in self.columns.items() if type_ in _DOCUMENTS or name in self.texts]

    def document(self, name: str) -> str:
        """SQL: the column as jsonb; null if a text is no document."""
        column, type_ = f"t.{quote_identifier(name)}", self.columns[name]
        if type_ == "jsonb":
            return column
        if type_ in ("record", "_json", "_jsonb"):
            return f"to_jsonb({column})"
        # A text may be anything; json has surrogates and \\u0000, which jsonb refuses.
        return (
            f"case when {_BEGINS_LIKE_ONE.format(column=column)} and pg_input_is_valid({column}::text, 'jsonb') "
            f"then {column}::text::jsonb end"
        )

    @property
    def wordy(self) -> list[str]:
        """The columns whose values could contain words of a subject: texts, documents, arrays, enums, custom
        types."""
        return [
            name
            for name, type_ in self.columns.items()
            if type_ not in _NUMBERS and "timestamp" not in type_ and not self._is_ours(name, type_)
        ]

    def _is_ours(self, column: str, type_: str) -> bool:
        if self.schema in ("ops", "quarantine"):
            return (column in _OURS and type_ != "jsonb") or (self.told, column) in _OF_CATALOGUES
        return column == "_source_system"


async def find_places(connection: Connection[Record]) -> list[Place]:
    """Every table of the warehouse."""
    return [
        Place(
            row["schema"],
            row["name"],
            row["owner"],
            row["readable"],
            dict(zip(row["columns"], row["types"], strict=True)),
            row["derived"],
        )
        for row in await connection.fetch(_TABLES)
    ]


async def find_documents(connection: Connection[Record], places: list[Place]) -> list[Place]:
    """The same places, with the columns of text that have documents. Reads every table with texts once."""
    found = []
    for place in places:
        texts = [name for name, type_ in place.columns.items() if type_ in _TEXTS and name in place.wordy]
        if place.readable and texts:
            looks = [f"bool_or({_BEGINS_LIKE_ONE.format(column=f't.{quote_identifier(name)}')})" for name in texts]
            row = await connection.fetchrow(f"select {', '.join(looks)} from {place.relation} as t")
            found.append(replace(place, texts=tuple(name for name, has in zip(texts, row or [], strict=True) if has)))
        else:
            found.append(place)
    return found
