"""The declared columns of a raw table; other columns depend on the source."""

from flows.declare.source import Loadable, Source
from flows.kinds.answers import Column
from flows.kinds.registry import kind_of

# PostgreSQL's long type names: Soda compares them as text, and `timestamptz` would never match.
_TIMESTAMP = "timestamp with time zone"

METADATA = (
    Column("_extracted_at", "When this version of the row was read from the source.", _TIMESTAMP),
    Column("_source_system", "The declared source of the row.", "text"),
    Column("_batch_id", "The load that wrote this version: `ops.loads.batch_id`.", "bigint"),
    Column(
        "_deleted_at",
        "When the row was found deleted at the source; null while it exists. The row keeps its last values.",
        _TIMESTAMP,
        required=False,
    ),
)


def raw_columns(source: Source, table: Loadable) -> tuple[Column, ...]:
    """The columns known to the kind of source, then the metadata columns."""
    return (*kind_of(source).columns(table), *METADATA)
