"""The plan of a load, decided before it changes anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from flows.values.shape import Shape


@dataclass(frozen=True, slots=True)
class CursorState:
    """A table's row in `ops.cursors`. Values are text, in the source type's own format.

    `key` is a JSON array of texts: the key of the last row read at `value`, if later rows share that value. For a
    transaction id it is the table's oid, which identifies the table.
    `identity` says what the values belong to (declared cursor, source, table, columns) and what was seen beside them
    (clocks, the newest position), as JSON; see `flows.publish.identity`. Empty: saved before version 11.
    """

    value: str | None = None
    pending_value: str | None = None
    pending_at: datetime | None = None
    key: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The number of rows, and a fingerprint of their keys (None without a key)."""

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

    `condition` selects them; `below` selects every row that raw must have afterwards (for counting).
    `lower` and `upper` are the bounds as text; `next` is the cursor to store. `warning`: why the bound is weaker.
    `expected` selects about as many rows as `condition`, if the planner would misestimate that. `earlier` is the number
    of earlier partitions to overwrite, because the cursor found rows in them; `since` is the first day to overwrite, if
    that is earlier than the declared partitions because the last load is longer ago.
    `doubt`: why the stored cursor must not be trusted, found only when its position was looked at.
    """

    condition: str = "true"
    below: str = "true"
    lower: str | None = None
    upper: str | None = None
    next: CursorState = field(default_factory=CursorState)
    warning: str | None = None
    expected: str | None = None
    earlier: int = 0
    since: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The volume of a read, by the source's statistics, and how it is divided.

    `how`: `whole`, one COPY; `chunks`, gathered in the landing table and published together; `windows`, each chunk
    published with its own cursor. `by`: what it is divided by. `restarts`: a killed read resumes from its last
    committed chunk. `rows` and `bytes` are estimates.
    """

    volume: Literal["small", "medium", "large"] = "small"
    how: Literal["whole", "chunks", "windows"] = "whole"
    by: Literal["", "page", "key", "cursor"] = ""
    columns: tuple[str, ...] = ()
    readers: int = 1
    restarts: bool = False
    rows: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        """For display: `large, about 4.1 GB: 4 readers, chunks by page`."""
        size = f"{self.bytes / 1e9:.1f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:,.0f} MB"
        if self.how == "whole":
            return f"{self.volume}, about {size}: one COPY"
        readers = f"{self.readers} readers, " if self.readers > 1 else ""
        ending = {
            (True, "chunks"): "a restart resumes from the last one",
            (False, "chunks"): "a restart begins again",
            (True, "windows"): "each published with its cursor",
        }[self.restarts, self.how]
        return f"{self.volume}, about {size}: {readers}chunks by {self.by}, {ending}"


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One table's next load: its `strategy`, the `reason`, and the `reading`.

    `initial`: the first load. `merge`, `append`, `replace`, `overwrite`: as declared. `reload`: a full reload, merged.
    `backfill` and `repair` reload some rows. `warning`: what weakens this load; `cautions`: what a person should know
    before the table is relied upon, shown by a plan and not by every load.
    """

    source: str
    table: str
    strategy: str
    reason: str
    lower: str | None = None
    upper: str | None = None
    rows: int | None = None
    shape: Shape | None = None
    warning: str | None = None
    reading: Reading = field(default_factory=Reading)
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """The row counts of one load; see the check constraint on ops.loads.

    Keys that raw lacks, keys that only raw has, and source rows beyond the first of their key: None if keys were not
    compared one by one. `skipped` is what of the source was not loaded, in words without values of rows.
    """

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
    reconciliation: str | None = None
    missing_rows: int | None = None
    extra_rows: int | None = None
    duplicate_rows: int | None = None
    skipped: str | None = None

    def after(self, before: "LoadCounts") -> "LoadCounts":
        """These counts plus those of an earlier part of the same read; totals are the latest."""
        added = ("read", "inserted", "updated", "unchanged", "deduplicated", "quarantined", "deleted")
        sums = {f"rows_{name}": getattr(self, f"rows_{name}") + getattr(before, f"rows_{name}") for name in added}
        return replace(self, bytes=self.bytes + before.bytes, **sums)

    @property
    def changed(self) -> int:
        """Changed rows of raw."""
        return self.rows_inserted + self.rows_updated + self.rows_deleted
