"""The columns of a table, as read from its source."""

from dataclasses import dataclass

from flows.values.identifiers import quote_identifier

# On every raw row, after the source's own columns.
METADATA = (
    ("_extracted_at", "timestamp with time zone"),
    ("_source_system", "text"),
    ("_batch_id", "bigint"),
    ("_deleted_at", "timestamp with time zone"),
)
METADATA_NAMES = tuple(name for name, _ in METADATA)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `raw_type` is its type in raw, `select` the expression that reads it at the source in that type.
    `labels` are an enum's labels in order; `enum` is its name at the source.
    `compared`: rows that differ in nothing but columns that are not compared are equal, and are not written again.
    """

    name: str
    raw_type: str
    select: str
    nullable: bool = True
    enum: str | None = None
    labels: tuple[str, ...] = ()
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """A source table's columns in order, and the planner's row estimate (-1: never analysed).

    `sent` are the columns as sent by the source, if a landing table has them in addition to raw's: `select` is the
    landing table's name for them. `undecodable` is SQL over the source table: a text of the row is no UTF-8, so raw
    cannot have it; empty if all are.
    """

    columns: tuple[Column, ...]
    estimated_rows: int = -1
    sent: tuple[Column, ...] = ()
    undecodable: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The source's column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def compared(self) -> tuple[str, ...]:
        """The names of the columns in which two versions of a row may differ."""
        return tuple(column.name for column in self.columns if column.compared)

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


def column_list(names: tuple[str, ...] | list[str], alias: str = "") -> str:
    """`("a", "b")`, alias `l` → `l."a", l."b"`."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + quote_identifier(name) for name in names)


def fingerprint(expressions: list[str]) -> str:
    """SQL over a set of rows: a number that is equal for equal sets of keys, whatever their order.

    The sum of 64-bit hashes of the bytes of the keys' text, whatever their collation treats as equal. If two servers
    hash differently, equal sets look different and a full comparison follows: slower, never wrong.
    """
    text = expressions[0] + "::text" if len(expressions) == 1 else f"row({', '.join(expressions)})::text"
    return f'coalesce(sum(hashtextextended(({text}) collate "C", 0)), 0)'


def row_document(shape: Shape, alias: str = "") -> str:
    """SQL for a row as jsonb, equal on both sides: at the source, or with `alias` from a relation of raw's columns (or
    a landing table of `shape.sent`).

    json is converted to text: jsonb would drop repeated keys, and fails the statement for \\u0000. The record is
    written `whole.*`, since `whole` alone would mean a column of that name if there is one.
    """
    values = []
    for column in shape.sent or shape.columns:
        value = f"{alias}.{quote_identifier(column.name)}" if alias else column.select
        if alias and shape.sent:
            value = f"{alias}.{column.select}"
        if column.raw_type in {"json", "json[]"}:
            value = f"({value})::text{column.raw_type.removeprefix('json')}"
        values.append(f"{value} as {quote_identifier(column.name)}")
    return f"(select to_jsonb(whole.*) from (select {', '.join(values)}) as whole)"
