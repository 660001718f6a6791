"""Tables of `medallion plan` and `medallion preview`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.json import JSON
from rich.table import Table
from rich.text import Text

from flows.observe.look import grid

if TYPE_CHECKING:
    from flows.kinds.kind import Preview
    from flows.verbs.plan import PlanLine


def plan_table(lines: Iterable[PlanLine]) -> Table:
    """`medallion plan`."""
    table = grid("Plan", ["table", "pending", "rows", "strategy", "from cursor", "why"], ["rows"])
    for line in lines:
        plan = line.plan
        why = line.error.what if line.error else plan.reason if plan else ""
        if plan:
            why = "; ".join(part for part in (line.refusal, why, plan.warning, *plan.cautions) if part)
        table.add_row(
            f"{line.source}.{line.table}",
            Text(
                line.state,
                style="bold red" if line.error or line.refusal else "dim" if line.state == "up to date" else "bold",
            ),
            "" if line.rows is None else f"{line.rows:,}",
            plan.strategy if plan else "",
            (plan.lower or "the beginning") if plan else "",
            why,
        )
    return table


def preview_parts(name: str, preview: Preview) -> list[Table | Text | JSON]:
    """`medallion preview`: facts of the endpoint, its fields, the first records."""
    facts = grid(f"Preview of {name}", ["what", "declared", "suggested by the response"])
    for fact in preview.facts:
        facts.add_row(*fact)
    fields = grid("Fields", ["field", "kinds"])
    for field, kinds in preview.fields.items():
        fields.add_row(field, kinds)
    return [facts, fields, *(JSON(record.decode("utf-8", errors="replace")) for record in preview.records)]
