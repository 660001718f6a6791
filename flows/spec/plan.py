"""What a load is going to do, decided before it does anything."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from flows.spec.shape import Shape


@dataclass(frozen=True, slots=True)
class CursorState:
    """What `ops.cursors` remembers of a table. Values are text, in the source type's own digits."""

    value: str | None = None
    pending_value: str | None = None
    pending_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeySet:
    """How many rows there are, and a fingerprint of their keys (None where there is no key)."""

    rows: int
    fingerprint: Decimal | None = None

    def plus(self, other: "KeySet") -> "KeySet":
        """Both sets together, which must not overlap."""
        if self.fingerprint is None or other.fingerprint is None:
            return KeySet(self.rows + other.rows)
        return KeySet(self.rows + other.rows, self.fingerprint + other.fingerprint)


@dataclass(frozen=True, slots=True)
class Window:
    """The rows of one read, as SQL over the source table.

    `condition` selects them; `below` selects every row that raw must hold once they are in (for counting).
    `lower` and `upper` are the bounds as text; `next` is the cursor to store. `warning` tells what weakens the bound.
    """

    condition: str = "true"
    below: str = "true"
    lower: str | None = None
    upper: str | None = None
    next: CursorState = field(default_factory=CursorState)
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One table's next load. `path` names how rows travel; `reason` says why that path."""

    source: str
    table: str
    mode: str
    path: str
    reason: str
    lower: str | None = None
    upper: str | None = None
    rows: int | None = None
    shape: Shape | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What became of the rows of one load; see the check constraint on ops.loads."""

    rows_read: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0
    rows_deduplicated: int = 0
    rows_quarantined: int = 0
    rows_deleted: int = 0
    bytes: int = 0
    source_rows: int | None = None
    raw_rows: int | None = None
    quarantine_rows: int | None = None
    reconciled: str | None = None

    @property
    def changed(self) -> int:
        """Rows of raw that are different now."""
        return self.rows_inserted + self.rows_updated + self.rows_deleted
