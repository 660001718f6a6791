"""Row checks on load."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

OnDuplicate = Literal["quarantine", "newest"]
"""What happens to rows of one key at the source: all are quarantined, or the newest is loaded and the others are."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named SQL condition over the table's columns.

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
                "the condition is not a single SQL expression",
                where=f"rule {self.name}",
                fix="write a single boolean expression over the table's columns, such as quantity >= 0",
            )


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many rows of a read may break row checks before the load stops.

    `max_quarantined` is a share (0 to 1); 0 tolerates none. `quarantine_floor` is how many rows a small read may
    quarantine whatever its share, up to a quarter of it; with 0 the share alone counts.
    """

    max_quarantined: float = 0.0
    quarantine_floor: int = 5

    def refuse_nonsense(self, where: str) -> None:
        """Check what was declared.

        Raises:
            DeclarationError: the share is invalid, or the floor is below zero.
        """
        if not 0 <= self.max_quarantined <= 1:
            raise DeclarationError(
                f"max_quarantined must be between 0 and 1, not {self.max_quarantined}",
                where=where,
                fix="write 0.01 for one row in a hundred",
            )
        if self.quarantine_floor < 0:
            raise DeclarationError(
                f"quarantine_floor must be a number of rows, not {self.quarantine_floor}",
                where=where,
                fix="write 5 for five rows, or 0 to use max_quarantined alone",
            )


def refuse_unknown_reaction(on_duplicate: str, where: str) -> None:
    """Check what was declared.

    Raises:
        DeclarationError: there is no such reaction to keys that are not unique.
    """
    if on_duplicate not in get_args(OnDuplicate):
        raise DeclarationError(
            f"on_duplicate {on_duplicate!r} is unknown",
            where=where,
            fix=f"use one of {', '.join(get_args(OnDuplicate))}",
        )


# Names, literals and line comments (ended by the rule's own line break), whichever begins first.
_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|--[^\r\n]*")
# In E'' strings this is an escaped quote; read as an end it would hide what follows.
_ESCAPED_QUOTE = re.compile(r"(?<!\\)(?:\\\\)*\\'")


def _leaves_the_expression(condition: str) -> bool:
    """Whether there is, outside of names and literals, a statement end, a comment, or an unterminated quote."""
    bare = _QUOTED.sub(" ", condition)
    return bool(_ESCAPED_QUOTE.search(condition)) or any(mark in bare for mark in (";", "/*", "'", '"', "$$"))
