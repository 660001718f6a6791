"""What a recovery found out about a table, and what it would do: read-only, and decided without a person.

load      what is pending, as the next scheduled load does
rewind    the cursor goes back to a value, and a load reads on from there
window    the days are read again, partition by partition
repair    the keys that differ are read again
reload    all rows are read again, and those that differ are written
replay    rows of quarantine that break no rule any more are loaded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from flows.declare import Append, Overwrite, Replace
from flows.declare.partition import Every
from flows.declare.source import Loadable, Source
from flows.kinds.kind import Kind
from flows.kinds.registry import kind_of
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DeclarationError, MedallionError

Action = Literal["load", "rewind", "window", "repair", "reload", "replay"]

# A reload reads each row once; a repair compares keys and looks them up. Above this share, a reload costs less.
_SHARE_RELOADED = 0.3
# Longer windows are read by the month: each partition is a load.
_DAYS_BY_DAY = 31


@dataclass(frozen=True, slots=True)
class Asked:
    """The days to read again, as requested: from `first` (None: whatever differs) to `last` (None: until now).
    `by` is the column that divides the table."""

    first: date | None = None
    last: date | None = None
    by: str | None = None

    @property
    def every(self) -> Every:
        """The length of a partition."""
        assert self.first is not None
        assert self.last is not None
        return "day" if (self.last - self.first).days < _DAYS_BY_DAY else "month"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, the rows that it would read (None: not known), and why."""

    action: Action
    rows: int | None
    why: str

    def __str__(self) -> str:
        return self.action if self.rows is None else f"{self.action} {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class Found:
    """One table as it is. `pending` rows (None: the source cannot tell), `replayable` rows of quarantine.

    `window_rows`: rows of the requested days at the source, or after the requested value of the cursor. `unfinished`:
    why its last load did not read to its end. `interrupted`: the plan of a recovery that was killed.
    """

    source: Source
    table: Loadable
    compared: Reconciliation | None = None
    is_loaded: bool = True
    pending: int | None = 0
    deletes_pending: bool = False
    replayable: int = 0
    unfinished: str | None = None
    window_rows: int | None = None
    divided_by: str | None = None
    interrupted: str | None = None
    cost: tuple[float, float] | None = None
    error: MedallionError | None = None

    @property
    def name(self) -> str:
        """`shop.baskets`."""
        return f"{self.source.name}.{self.table.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery would do with a table; `left`: what it cannot do, and what to do about it."""

    found: Found
    steps: tuple[Step, ...] = ()
    left: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int | None:
        """Rows that all steps would read; None if one is not known."""
        rows = [step.rows for step in self.steps]
        return None if None in rows else sum(row for row in rows if row is not None)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do, if only to end a recovery that was killed after its last step."""
        return bool(self.steps) or self.found.interrupted is not None

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps)) or "nothing"


def decide(found: Found, asked: Asked) -> Plan:
    """The steps that bring the table up to date, in their order. Quarantine comes last: loads tell what is gone."""
    if found.error is not None:
        return Plan(found)
    if not found.is_loaded:
        return Plan(found, (Step("load", found.pending, "it was never loaded"),))
    steps, left = _of_window(found, asked) if asked.first is not None else _of_differences(found)
    if found.replayable:
        if not any(step.action in ("load", "reload", "rewind") for step in steps):
            # A row that is gone at the source must not come back by its quarantined version.
            steps = (*steps, Step("load", found.pending, "quarantine learns what is gone at the source"))
        steps = (*steps, Step("replay", found.replayable, "quarantined rows that break no rule any more"))
    return Plan(found, steps, left)


def _of_window(found: Found, asked: Asked) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    if found.divided_by is not None:
        days = f"{asked.first} to {asked.last} by {found.divided_by}"
        return (Step("window", found.window_rows, f"days {days} as requested"),), ()
    return (Step("rewind", found.window_rows, f"the cursor goes back to {asked.first} as requested"),), ()


def _of_differences(found: Found) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    compared = found.compared
    assert compared is not None  # only of a table that could be compared
    steps: list[Step] = []
    left: list[str] = []
    if found.unfinished is not None:
        steps.append(Step("load", found.pending, found.unfinished))
    elif found.pending or found.deletes_pending:
        steps.append(Step("load", found.pending, "rows are pending"))
    lacking = compared.missing + compared.extra + compared.different
    if compared.duplicate:
        left.append(f"{compared.duplicate:,} keys are not unique at the source: make them unique there")
    if compared.result == "different" and lacking:
        step, word = _mending(found, compared, lacking)
        if word:
            left.append(word)
        if step is not None:
            if step.action in ("load", "reload"):
                steps.clear()  # it reads what is pending as well
            steps.append(step)
    return tuple(steps), tuple(left)


def _mending(found: Found, compared: Reconciliation, lacking: int) -> tuple[Step | None, str]:
    """The step for rows that differ, or why there is none."""
    table, kind = found.table, kind_of(found.source)
    rows = compared.source_rows
    if isinstance(table.load, Replace):
        return Step("load", rows, f"{lacking:,} rows differ, and each load reads all"), ""
    if not table.keys and not isinstance(table.load, Overwrite):
        return None, (
            f"{lacking:,} rows differ, and without a key they would be in raw twice: declare the key, or load a new "
            f"raw table with `medallion reload {found.name} --recreate`"
        )
    if compared.extra == lacking and isinstance(table.load, Append):
        return None, f"{compared.extra:,} rows are gone at the source: an append keeps them"
    if compared.extra == lacking and not table.deletes and not _by_keys(kind, table):
        return None, f"{compared.extra:,} rows are gone at the source: declare deletes=True to mark them"
    few = rows is not None and lacking <= max(100, rows * _SHARE_RELOADED)
    if _by_keys(kind, table) and few:
        return Step("repair", lacking, f"{lacking:,} rows differ"), ""
    return Step("reload", rows, f"{lacking:,} rows differ"), ""


def _by_keys(kind: Kind[Source, Loadable], table: Loadable) -> bool:
    """Whether differing rows are known by their keys."""
    return kind.compares_by == "content" and bool(table.keys)


def refuse_window(asked: Asked, names: Sequence[str]) -> None:
    """Raises: DeclarationError: days were requested of more than one table, or end before they begin."""
    if asked.first is None:
        if asked.last is not None or asked.by is not None:
            raise DeclarationError("--to and --by need --from", where="medallion recover", fix="add --from 2026-01-31")
        return
    if len(names) != 1:
        raise DeclarationError(
            "days are read again of one table at a time", where="medallion recover", fix="name one table: shop.baskets"
        )
    if asked.last is not None and asked.last < asked.first:
        raise DeclarationError("--to is before --from", where=names[0], fix="swap them")
