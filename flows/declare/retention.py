"""How long rows are kept."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows of the tables in `place` end so many days after the moment in column `by`; rows without a moment stay.

        Keep("quarantine.rows", days=90, by="resolved_at", why="…")
        Keep("raw_*.*", days=400, by="_deleted_at")          every table of every schema that begins so, if it has `by`

    `condition` is SQL that rows must fulfil besides.
    """

    place: str
    days: int
    by: str
    why: str = ""
    condition: str = "true"

    def __post_init__(self) -> None:
        if self.days < 1 or self.place.count(".") != 1:
            raise DeclarationError(
                "a term is a day or more, for schema.table",
                where=f"retention of {self.place}",
                fix='write Keep("quarantine.rows", days=90, by="resolved_at")',
            )
