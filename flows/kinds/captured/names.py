"""What capture makes at a source, by name.

Each captured table has a change table of its own, so that two sources that read one table do not take each other's
changes, and ids of one change table follow one another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flows.declare.table import Table
from flows.values.identifiers import qualified, quote_identifier

SCHEMA = "medallion_captured"
# PostgreSQL cuts names after 63 bytes, and the longest suffix has 8.
_LONGEST = 54
#: Columns of a change table, beside those of the key.
OWN_COLUMNS = ("capture_id", "capture_op", "capture_xact", "capture_at")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one table's change table, function, triggers and counter, unquoted."""

    base: str

    @classmethod
    def of(cls, source: str, table: Table) -> Names:
        """By the source's and the table's declared names."""
        base = f"{source}__{table.name}"
        if len(base.encode()) > _LONGEST:
            digest = hashlib.sha256(base.encode()).hexdigest()[:12]
            base = f"{base.encode()[: _LONGEST - 14].decode(errors='ignore')}__{digest}"
        return cls(base)

    @property
    def changes(self) -> str:
        """The change table, quoted for PostgreSQL."""
        return qualified(SCHEMA, self.base)

    @property
    def lost(self) -> str:
        """The sequence that counts what somebody else removed from the change table, quoted for PostgreSQL."""
        return qualified(SCHEMA, f"{self.base}__lost")

    @property
    def read(self) -> str:
        """The table that says which load has emptied the change table last, quoted for PostgreSQL."""
        return qualified(SCHEMA, f"{self.base}__read")

    @property
    def function(self) -> str:
        """The function of the triggers, quoted for PostgreSQL."""
        return qualified(SCHEMA, f"{self.base}__f")

    @property
    def guard(self) -> str:
        """The function that notices when rows of the change table are removed, quoted for PostgreSQL."""
        return qualified(SCHEMA, f"{self.base}__g")

    def trigger(self, event: str) -> str:
        """The trigger of an event: `insert`, `update`, `delete`, `truncate`, or `row`. Unquoted."""
        return f"{self.base}__{event[0]}"

    def quoted_trigger(self, event: str) -> str:
        """The same for PostgreSQL."""
        return quote_identifier(self.trigger(event))
