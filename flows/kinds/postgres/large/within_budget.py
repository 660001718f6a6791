"""Reads that are divided so that they can stop at a budget."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.postgres.table import count
from flows.publish.budget import Spending
from flows.publish.run import LoadRun
from flows.values.plan import Reading, Window
from flows.values.settings import settings

# Steps of a budget: a load ends with at most an eighth of it unused, because the next step would exceed it.
_STEPS = 8


def divides(spending: Spending, reading: Reading, *, follows_cursor: bool = False) -> bool:
    """Whether a read is divided although it is small, because it may reach a budget.

    The planner may take a read from the cursor on for a few rows, while a million came since the last `analyze`: such
    reads are always divided if rows or bytes are limited.
    """
    if spending.resumes:
        return True
    if not spending.has_limits:
        return False
    rows, size = spending.rows_left, spending.size_left
    if follows_cursor and (rows is not None or size is not None):
        return True
    # Half of the budget, since these are estimates.
    if (rows is not None and reading.rows * 2 > rows) or (size is not None and reading.bytes * 2 > size):
        return True
    return reading.bytes > settings().chunk_min_mb * 1e6  # time and money: not worth it below a chunk


def rows_apart(wanted: int, spending: Spending, width: float) -> int:
    """How many rows a step has."""
    bounds = [wanted]
    if (rows := spending.rows_left) is not None:
        bounds.append(rows // _STEPS)
    if (size := spending.size_left) is not None:
        bounds.append(int(size / _STEPS / width))
    return max(1, min(bounds))


@dataclass(slots=True)
class Steps:
    """The size of a step in rows and bytes, and rows that the last step has besides (`kept_back`).

    What is about to be read is reserved, for loads in parallel.
    """

    spending: Spending
    rows: float
    size: float
    kept_back: int = 0

    def within(self, wanted: int, *, first: bool) -> int:
        """So many steps at most still fit the budgets; 0: none does, or time or money is used up.

        `first`: nothing was read yet. A load that would read nothing would never get any further.
        """
        if not self.spending.has_limits:
            return wanted
        bounds = [wanted]
        for left, each in ((self.spending.rows_left, self.rows), (self.spending.size_left, self.size)):
            if left is not None:
                bounds.append(int(left / max(1.0, each)) - ceil(self.kept_back / max(1.0, self.rows)))
        fitting = 0 if self.spending.is_exhausted() else max(0, min(bounds))
        return max(1, fitting) if first else fitting

    def fits_at_most(self) -> int | None:
        """The rows that are left of the budgets, by their number or their size; None without such a limit."""
        rows, size = self.spending.rows_left, self.spending.size_left
        by_size = None if size is None else int(size * self.rows / max(1.0, self.size))
        return min((bound for bound in (rows, by_size) if bound is not None), default=None)

    def reserve(self, steps: int) -> None:
        """Count so many steps as read; negative: they were, and are counted by what they had."""
        self.spending.reserve(int(steps * self.rows), int(steps * self.size))


async def admit(run: LoadRun[Database, Table], reading: Reading, window: Window) -> None:
    """Before a read in one statement, within its snapshot. A limit of rows is compared with their number: of a small
    table the planner may expect ten times as many as there are.

    Raises:
        OverBudget: it needs more than a budget has.
        BudgetReached: it needs more than is left of a shared budget.
    """
    rows = None
    limits = [one.budget.rows for one in run.spending.allowances if one.budget.rows is not None]
    if limits:
        with run.session.reading():
            rows = await count(run.origin, run.table, window.condition, max(limits) + 1)
    # The planner's idea of a row's width is better than that of their number.
    size = reading.bytes if rows is None else int(rows * reading.bytes / max(1, reading.rows))
    run.spending.admit(rows, size)
