"""How staged rows become raw rows."""

from dataclasses import dataclass
from typing import get_args

from flows.declare.partition import Every
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Replace:
    """Raw becomes what the source holds now; rows gone from the source go from raw.

    Only what differs is written, in one transaction: readers see yesterday's table or today's, never an empty one.
    `min_share` refuses a source that shrank suddenly: 0.5 means "stop when fewer than half of raw's rows came".
    """

    min_share: float = 0.5

    def __post_init__(self) -> None:
        _refuse_no_share(self.min_share, "Replace")


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Partition overwrite: raw's rows of some partitions become what the source holds of them; others are left alone.

        Overwrite(by="sold_at", every="month", last=3)     this month and the two before it, by the source's clock
        Overwrite(by="day", every="day", last=1)           today; with a cursor also every day in which rows changed

    For large tables that change near their end: facts, also without a key, where rows deleted or corrected leave no
    trace that a cursor could follow. `by` is a column of dates or times that divides the table; days begin at midnight
    UTC. What lies after the last partition, and rows without a value in `by`, are read by every load. A table with a
    cursor overwrites earlier partitions, too, when the cursor sees a row in them. The first load reads everything.

    With a key only the difference is written, and a row that left a partition is looked for in the others. Without one,
    a partition that differs is written anew, and `by` must not change with the row.
    `min_share` refuses a partition that shrank suddenly: 0.5 means "stop when fewer than half of raw's rows of a
    partition came"; partitions with fewer than 100 rows in raw are exempt.
    """

    by: str
    every: Every
    last: int = 1
    min_share: float = 0.5

    def __post_init__(self) -> None:
        if not self.by:
            raise DeclarationError(
                "no column divides the table",
                where="Overwrite",
                fix='name a column of dates or times, such as by="sold_at"',
            )
        if self.every not in get_args(Every):
            raise DeclarationError(
                f"a partition of one {self.every!r} is not known",
                where="Overwrite",
                fix=f"choose among {', '.join(get_args(Every))}",
            )
        if self.last < 1:
            raise DeclarationError(
                f"the last {self.last} partitions are none",
                where="Overwrite",
                fix="write how many partitions each run reads, the current one included: 1 or more",
            )
        _refuse_no_share(self.min_share, "Overwrite")

    def __str__(self) -> str:
        """`the last 3 months by sold_at`."""
        span = f"last {self.last} {self.every}s" if self.last > 1 else f"current {self.every}"
        return f"the {span} by {self.by}"


def _refuse_no_share(share: float, where: str) -> None:
    if not 0 <= share <= 1:
        raise DeclarationError(
            f"min_share is a share between 0 and 1, not {share}",
            where=where,
            fix="write 0.5 to stop when fewer than half of the rows came, 0 to accept any number",
        )


@dataclass(frozen=True, slots=True)
class Append:
    """Rows are only ever added: logs, events, measurements."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Rows are matched by key: new ones inserted, changed ones updated, identical ones left alone."""
