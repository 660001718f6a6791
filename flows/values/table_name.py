"""The name of a loaded table: its source's, and its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableName:
    """What the tables of `ops` and `quarantine` call it: `source_system` and `table_name`."""

    source: str
    name: str
