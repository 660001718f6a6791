"""Load strategies: how staged rows become raw rows."""

from dataclasses import dataclass
from typing import get_args

from flows.declare.cursor import refuse_unknown_zone
from flows.declare.partition import Every
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Replace:
    """Full replace: raw becomes the current content of the source; rows deleted there are removed from raw.

    Only differing rows are written, in one transaction: readers see the old or the new table, never an empty one.
    `min_share` refuses a source that shrank suddenly: 0.5 means "stop if fewer than half of raw's rows arrive".
    """

    min_share: float = 0.5

    def __post_init__(self) -> None:
        _refuse_no_share(self.min_share, "Replace")


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Partition overwrite: some partitions of raw become the current content of the source; others are not touched.

        Overwrite(by="sold_at", every="month", last=3)     this month and the two before it, by the source's clock
        Overwrite(by="day", every="day", last=1)           today, and what came after the last load of yesterday;
                                                           with a cursor also every day in which rows changed
        Overwrite(by="sold_at", every="day", zone="Europe/Berlin")     days as people in Berlin count them

    For large tables that change near their end, such as facts (also without a key), if deleted or corrected rows leave
    no trace for a cursor. `by` is a date or timestamp column that partitions the table; days begin at midnight of
    `zone`, which is also the time zone of a column without time zone.
    If the last load is longer ago than the declared partitions, those since then are read as well.
    Rows after the last partition, and rows without a value in `by`, are read by every load. A table with a cursor also
    overwrites earlier partitions in which the cursor finds rows. The first load reads everything.

    With a key only differing rows are written, and a row that left a partition is searched in the others. Without a
    key, a differing partition is rewritten, and `by` must not change.
    `min_share` refuses a partition that shrank suddenly: 0.5 means "stop if fewer than half of raw's rows of a
    partition arrive"; partitions with fewer than 100 rows in raw are exempt.
    """

    by: str
    every: Every
    last: int = 1
    min_share: float = 0.5
    zone: str = "UTC"

    def __post_init__(self) -> None:
        refuse_unknown_zone(self.zone or "-", "Overwrite")
        if not self.by:
            raise DeclarationError(
                "the partition column is not declared",
                where="Overwrite",
                fix='name a date or timestamp column, such as by="sold_at"',
            )
        if self.every not in get_args(Every):
            raise DeclarationError(
                f"partition length {self.every!r} is unknown",
                where="Overwrite",
                fix=f"use one of {', '.join(get_args(Every))}",
            )
        if self.last < 1:
            raise DeclarationError(
                f"`last` must be at least 1, not {self.last}",
                where="Overwrite",
                fix="write how many partitions each run reads, including the current one",
            )
        _refuse_no_share(self.min_share, "Overwrite")

    def __str__(self) -> str:
        """`the last 3 months by sold_at`."""
        span = f"last {self.last} {self.every}s" if self.last > 1 else f"current {self.every}"
        return f"the {span} by {self.by}"


def _refuse_no_share(share: float, where: str) -> None:
    if not 0 <= share <= 1:
        raise DeclarationError(
            f"min_share must be between 0 and 1, not {share}",
            where=where,
            fix="write 0.5 to stop if fewer than half of the rows arrive, 0 to accept any number",
        )


@dataclass(frozen=True, slots=True)
class Append:
    """Append: rows are only added, as in logs, events, measurements."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge: rows are matched by key; new ones are inserted, changed ones updated, unchanged ones not written."""
