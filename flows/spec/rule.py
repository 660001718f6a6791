"""What a row must satisfy to enter raw."""

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
        if not self.condition.strip() or ";" in self.condition:
            raise DeclarationError(
                "the condition is not one SQL expression",
                where=f"rule {self.name}",
                next_move="write a single boolean expression over the table's columns, such as quantity >= 0",
            )
