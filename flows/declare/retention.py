"""Retention periods."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows of the tables in `place` are deleted so many days after the time in column `by`; rows without one are kept.

        Keep("quarantine.rows", days=90, by="resolved_at", why="…")
        Keep("raw_*.*", days=400, by="_deleted_at")          every table with column `by` in matching schemas

    `condition` is an additional SQL condition.
    """

    place: str
    days: int
    by: str
    why: str = ""
    condition: str = "true"

    def __post_init__(self) -> None:
        if self.days < 1 or self.place.count(".") != 1:
            raise DeclarationError(
                "a retention period needs a table as schema.table and at least 1 day",
                where=f"retention of {self.place}",
                fix='write Keep("quarantine.rows", days=90, by="resolved_at")',
            )
