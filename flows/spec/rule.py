"""What a row must satisfy to enter raw."""

import re
from dataclasses import dataclass

from flows.spec.errors import DeclarationError
from flows.spec.identifiers import require_plain


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
                next_move="write a single boolean expression over the table's columns, such as quantity >= 0",
            )


# Names, literals and comments to the end of their line, which the rule's own line break ends: whichever begins first.
_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|--[^\r\n]*")
# In the E'' form this is a quote within; read as an end it would hide what follows.
_ESCAPED_QUOTE = re.compile(r"(?<!\\)(?:\\\\)*\\'")


def _leaves_the_expression(condition: str) -> bool:
    """Whether outside of names and literals there is what ends a statement, hides its rest, or a quote left open."""
    bare = _QUOTED.sub(" ", condition)
    return bool(_ESCAPED_QUOTE.search(condition)) or any(mark in bare for mark in (";", "/*", "'", '"', "$$"))
