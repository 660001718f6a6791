"""What a row must satisfy to enter raw."""

import re
from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Rule:
    """A named condition, in SQL over the table's own columns.

        Rule("quantity_not_negative", "quantity >= 0")

    A row for which it is false goes to `quarantine.rows` with the rule's name; null counts as true, as in a check
    constraint.
    """

    name: str
    condition: str

    def __post_init__(self) -> None:
        require_plain(self.name, "rule", "rule")
        if not self.condition.strip() or _leaves_the_expression(self.condition):
            raise DeclarationError(
                "the condition is not one SQL expression",
                where=f"rule {self.name}",
                fix="write a single boolean expression over the table's columns, such as quantity >= 0",
            )


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many rows of a read may break rules before the load stops.

    `max_quarantined` is a share (0 to 1); 0 tolerates none. `quarantine_floor` is how many rows a small read may
    quarantine whatever its share, up to a quarter of it; with 0 the share alone counts.
    """

    max_quarantined: float = 0.0
    quarantine_floor: int = 5

    def refuse_nonsense(self, where: str) -> None:
        """Check what was declared.

        Raises:
            DeclarationError: the share is none, or the floor is below zero.
        """
        if not 0 <= self.max_quarantined <= 1:
            raise DeclarationError(
                f"max_quarantined is a share between 0 and 1, not {self.max_quarantined}",
                where=where,
                fix="write 0.01 for one row in a hundred",
            )
        if self.quarantine_floor < 0:
            raise DeclarationError(
                f"quarantine_floor is a number of rows, not {self.quarantine_floor}",
                where=where,
                fix="write 5 for five rows, or 0 to go by max_quarantined alone",
            )


# Names, literals and comments to the end of their line, which the rule's own line break ends: whichever begins first.
_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|--[^\r\n]*")
# In the E'' form this is a quote within; read as an end it would hide what follows.
_ESCAPED_QUOTE = re.compile(r"(?<!\\)(?:\\\\)*\\'")


def _leaves_the_expression(condition: str) -> bool:
    """Whether outside of names and literals there is what ends a statement, hides its rest, or a quote left open."""
    bare = _QUOTED.sub(" ", condition)
    return bool(_ESCAPED_QUOTE.search(condition)) or any(mark in bare for mark in (";", "/*", "'", '"', "$$"))
