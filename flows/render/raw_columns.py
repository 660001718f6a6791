"""The columns of a raw table that follow from its declaration; the others are the source's affair."""

from dataclasses import dataclass

from flows.declare import Overwrite
from flows.kinds.api import Endpoint, Since
from flows.kinds.declared import Loadable
from flows.kinds.dlt import Resource

# PostgreSQL's own long names: Soda compares them as text, and `timestamptz` would never match.
_TIMESTAMP = "timestamp with time zone"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of raw. `data_type` is None where the source decides; `required` where null would be a fault."""

    name: str
    description: str
    data_type: str | None = None
    required: bool = True


METADATA = (
    Column("_extracted_at", "When this version of the row was read from the source.", _TIMESTAMP),
    Column("_source_system", "The declared source it was read from.", "text"),
    Column("_batch_id", "The load that brought this version: `ops.loads.batch_id`.", "bigint"),
    Column(
        "_deleted_at",
        "When the row was found gone from the source; null while it is there. The row keeps its last values.",
        _TIMESTAMP,
        required=False,
    ),
)


def raw_columns(table: Loadable) -> tuple[Column, ...]:
    """Key, cursor and payload, then the metadata, each once."""
    if isinstance(table, Endpoint):
        own = [Column(field.name, "The record's key at the API.", field.type) for field in table.key_fields]
        if table.parent is not None and table.parent.column not in table.keys:
            whose = f"The key in {table.parent.endpoint} of the record that it belongs to."
            own.append(Column(table.parent.column, whose, table.parent.type))
        if isinstance(table.cursor, Since) and table.cursor.column not in table.keys:
            own.append(Column(table.cursor.column, "When the record last changed at the API.", table.cursor.raw_type))
        own.append(Column("payload", "The record as the API sent it, unmodified.", "jsonb"))
    elif isinstance(table, Resource):
        own = _of_resource(table)
    else:
        own = [Column(name, "Key of the row at the source.") for name in table.keys]
        if table.cursor_column is not None and table.cursor_column not in table.keys:
            own.append(Column(table.cursor_column, "When the row last changed at the source.", required=False))
        if isinstance(table.load, Overwrite) and table.load.by not in [column.name for column in own]:
            said = f"Divides the table: rows of one {table.load.every} are overwritten together."
            own.append(Column(table.load.by, said, required=False))
    return (*own, *METADATA)


def _of_resource(table: Resource) -> list[Column]:
    """With `columns` the types are those of the resource's tables; a key that is not declared is not known here."""
    types = (None,) * len(table.keys) if table.columns else table.types_of(table.keys)
    own = [Column(name, "The record's key at the source.", kind) for name, kind in zip(table.keys, types, strict=True)]
    if table.cursor is not None and table.cursor not in table.keys:
        kind = None if table.columns else table.cursor_type
        own.append(Column(table.cursor, "When the record last changed at the source.", kind))
    if not table.columns:
        own.append(Column("payload", "The record as the source gave it, whole.", "jsonb"))
    return own
