"""How staged rows become raw rows."""

from dataclasses import dataclass

from flows.spec.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Replace:
    """Raw becomes what the source holds now; rows gone from the source go from raw.

    Only what differs is written, in one transaction: readers see yesterday's table or today's, never an empty one.
    `min_share` refuses a source that shrank suddenly: 0.5 means "stop when fewer than half of raw's rows came".
    """

    min_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= 1:
            raise DeclarationError(
                f"min_share is a share between 0 and 1, not {self.min_share}",
                where="Replace",
                next_move="write 0.5 to stop when fewer than half of the rows came, 0 to accept any number",
            )


@dataclass(frozen=True, slots=True)
class Append:
    """Rows are only ever added: logs, events, measurements."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Rows are matched by key: new ones inserted, changed ones updated, identical ones left alone."""
