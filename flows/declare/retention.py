"""Retention periods."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows of the tables in `place` are deleted so many days after the time in column `by`; rows without one are kept.

        Keep("quarantine.rows", days=90, by="resolved_at", why="…")
        Keep("raw_*.*", days=400, by="_deleted_at")          every table with column `by` in matching schemas

        Keep("snapshots.households_snapshot", days=3650, by="dbt_valid_to", clears=("age_band",))

    `condition` is an additional SQL condition. `clears` are columns that are set to null instead: of a snapshot, each
    row numbers a version, and the numbers are in keys of gold, so rows of snapshots stay.
    """

    place: str
    days: int
    by: str
    why: str = ""
    condition: str = "true"
    clears: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.days < 1 or self.place.count(".") != 1:
            raise DeclarationError(
                "a retention period needs a table as schema.table and at least 1 day",
                where=f"retention of {self.place}",
                fix='write Keep("quarantine.rows", days=90, by="resolved_at")',
            )
        if self.place.startswith("snapshots.") and not self.clears:
            raise DeclarationError(
                "without its rows, later versions would be renumbered, and keys in gold would mean other versions",
                where=f"retention of {self.place}",
                fix='name the columns to clear instead: clears=("age_band", …)',
            )
