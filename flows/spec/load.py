"""How staged rows become raw rows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replace:
    """Raw becomes what the source holds now; rows gone from the source go from raw.

    Only what differs is written, in one transaction: readers see yesterday's table or today's, never an empty one.
    `min_share` refuses a source that shrank suddenly: 0.5 means "stop when fewer than half of raw's rows came".
    """

    min_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Append:
    """Rows are only ever added: logs, events, measurements."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Rows are matched by key: new ones inserted, changed ones updated, identical ones left alone."""
