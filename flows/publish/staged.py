"""The staged rows of one load, and the warehouse's counts when it is published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flows.declare import Append, Merge, Overwrite, Replace, Rule
from flows.declare.rule import OnDuplicate, Tolerance
from flows.landing.table import SchemaChange
from flows.quality import quarantine
from flows.quality.open_rows import document_within
from flows.values.identifiers import quote_literal
from flows.values.plan import KeySet, LoadCounts, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Held:
    """The source's rows in the warehouse: those in raw, and those only in quarantine."""

    raw: KeySet
    only_quarantined: KeySet

    @property
    def all(self) -> KeySet:
        """Both together: the expected rows of the source."""
        return self.raw.plus(self.only_quarantined)


@dataclass(frozen=True, slots=True)
class WholeLists:
    """Completely read lists: raw's `column` has a value in `relation.parent`, and rows that did not come are gone.

    Without a key, rows cannot be matched: those of this load replace the lists' earlier ones.
    `documented`: rows that cannot become rows of raw are stored as documents that name their list as well.
    """

    relation: str
    column: str
    documented: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows in a landing table, and everything needed to publish them.

    `source_keys` is the source's key set that raw must have now (None: the source has no count); `count_source` waits
    for it, if the source counts while rows are published.
    `whole`: these rows are all of those, sent by one statement in one snapshot, so their keys are the source's.
    `stage_keys` copies the source's keys next to the landing table, to tell which ones differ; with `marks_deleted`,
    those that only raw has are marked as deleted.
    `compared_by` are the columns by which both ends are compared: the key, or without one the sequence of an append.
    `unique_at_source`: a unique index there forbids two rows with one key. `may_repeat`: the read may contain a row
    twice, as the pages of a list do; `drops_copies`: versions of a row that differ as well, as the snapshots of a
    resumed read have them.
    `rereads`: all of the source's rows were read, whatever the load is.
    `more_follow`: these are a part of the read, so counts can be compared only after the last part.
    `moves_cursor`: whether `window.next` is stored.
    `limited`: a row limit ended the read, so that these rows say nothing of others. `renews`: raw has a sample that
    such loads have left, which these rows replace.
    `tombstones`: landing rows with `_deleted_at` mark deleted rows.
    `gone`: a relation of keys that the source says it has deleted, so raw's rows of them are.
    `lists`: completely read lists, so other rows of them in raw are deleted.
    `is_landed`: False if no row came from the cursor on, so that there is no landing table.
    `equals_raw`: nothing was staged, because all of the source's rows were found to be equal to raw's.
    `settle` replaces this for reads of single keys: it marks deletes among them, and counts only them.
    `skipped`: what of the source is not among these rows, and why.
    `before`: what earlier commits of the same batch have counted, if the batch is a stretch of following a log.
    `replays`: these are rows of quarantine, and say nothing of what the source has now; `kept_back` more stay there.
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
    count_source: Callable[[], Awaitable[KeySet]] | None = field(default=None)
    whole: bool = False
    rereads: bool = False
    more_follow: bool = False
    moves_cursor: bool = True
    limited: bool = False
    renews: bool = False
    tombstones: bool = False
    gone: str | None = None
    lists: WholeLists | None = None
    compared_by: tuple[str, ...] = ()
    on_duplicate: OnDuplicate = "quarantine"
    may_repeat: bool = False
    drops_copies: bool = False
    unique_at_source: bool = False
    marks_deleted: bool = False
    equals_raw: bool = False
    is_landed: bool = True
    skipped: str | None = None
    before: LoadCounts | None = None
    replays: bool = False
    kept_back: int = 0
    stage_keys: Callable[[], Awaitable[str]] | None = field(default=None)
    settle: Callable[[], Awaitable[tuple[Held, int]]] | None = field(default=None)

    async def counted(self) -> Staged:
        """Itself with `source_keys`, once the source has counted."""
        if self.count_source is None:
            return self
        return replace(self, source_keys=await self.count_source(), count_source=None)

    @property
    def quarantine_within(self) -> str:
        """SQL over `quarantine.rows as q`: the rows that the load covers. All, unless it reads a part completely."""
        if self.lists is not None:
            parent = quote_literal(self.lists.column)
            # An unreadable record is stored as text; its key identifies it.
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
    def is_complete(self) -> bool:
        """Whether all of the source's rows were read, at least of the partitions or lists that the load covers."""
        if self.limited:
            return False
        covers = isinstance(self.load, Replace | Overwrite) or self.lists is not None
        return self.rereads or self.whole or covers or (self.first and not self.more_follow)

    @property
    def key_types(self) -> dict[str, str]:
        """The key's columns and their types in raw."""
        return {key: column.raw_type for key in self.keys if (column := self.shape.column(key))}
