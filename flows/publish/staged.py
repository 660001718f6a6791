"""What one load has staged, and what the warehouse is found to hold when it is published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.declare import Append, Merge, Overwrite, Replace, Rule
from flows.declare.rule import Tolerance
from flows.landing.table import SchemaChange
from flows.quality import quarantine
from flows.quality.open_rows import document_within
from flows.values.identifiers import quote_literal
from flows.values.plan import KeySet, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Held:
    """What the warehouse holds of the source's rows: those in raw, and those that stand in quarantine only."""

    raw: KeySet
    only_quarantined: KeySet

    @property
    def all(self) -> KeySet:
        """Both together: what the source must have."""
        return self.raw.plus(self.only_quarantined)


@dataclass(frozen=True, slots=True)
class WholeLists:
    """Lists that were read to their end: those of the values of raw's `column` that stand in `relation.parent`."""

    relation: str
    column: str


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows waiting in a landing table, and all that is needed to publish them.

    `source_keys` is what the source holds of the rows that raw must hold now (None: the source gives no count).
    `whole`: these rows are all of those, sent by one statement in one snapshot, so their keys are the source's.
    `stage_keys` copies all of the source's keys beside the landing table, when deletes must be looked for.
    `rereads`: all of the source's rows were read, whatever the load is.
    `more_follow`: these are a part of what is read, so that both ends can be compared only after the last part.
    `moves_cursor`: whether `window.next` is stored.
    `tombstones`: landing rows with `_deleted_at` say that theirs is deleted.
    `lists`: of these the rows are all there are, so that what raw has of them besides is gone.
    `settle` does instead what a read of single keys needs: it marks deletes among them, and counts only them.
    """

    load: Replace | Append | Merge | Overwrite
    shape: Shape
    keys: tuple[str, ...]
    window: Window
    first: bool
    rows_read: int
    received_bytes: int
    extracted_at: str
    cursor: str | None = None
    cursor_required: bool = False
    rules: tuple[Rule, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    max_deleted: float = 1.0
    changes: tuple[SchemaChange, ...] = ()
    unreadable: tuple[quarantine.Unreadable, ...] = ()
    source_keys: KeySet | None = None
    whole: bool = False
    rereads: bool = False
    more_follow: bool = False
    moves_cursor: bool = True
    tombstones: bool = False
    lists: WholeLists | None = None
    stage_keys: Callable[[], Awaitable[str]] | None = field(default=None)
    settle: Callable[[], Awaitable[tuple[Held, int]]] | None = field(default=None)

    @property
    def quarantine_within(self) -> str:
        """SQL over `quarantine.rows as q`: what the load says something about. All, unless it reads a part whole."""
        if self.lists is not None:
            parent = quote_literal(self.lists.column)
            # A record that cannot be read is kept as text; its key tells whose it is.
            return (
                f"coalesce(q.row_data ->> {parent}, q.row_key ->> {parent}) "
                f"in (select parent from {self.lists.relation})"
            )
        if not isinstance(self.load, Overwrite) or self.window.condition == "true":
            return "true"
        column = self.shape.column(self.load.by)
        assert column is not None  # describe() has refused a table without it
        return document_within(column.name, column.raw_type, self.window.condition)

    @property
    def key_types(self) -> dict[str, str]:
        """The key's columns and their types in raw."""
        return {key: column.raw_type for key in self.keys if (column := self.shape.column(key))}
