"""What `medallion plan` and `medallion preview` show of the sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.json import JSON
from rich.table import Table
from rich.text import Text

from flows.observe.look import grid

if TYPE_CHECKING:
    from flows.kinds.api.preview import Preview
    from flows.verbs.plan import PlanLine


def plan_table(lines: Iterable[PlanLine]) -> Table:
    """`medallion plan`."""
    table = grid("Plan", ["table", "due", "rows", "path", "from cursor", "why"], ["rows"])
    for line in lines:
        plan = line.plan
        why = line.error.what if line.error else plan.reason if plan else ""
        if plan and plan.warning:
            why = f"{why}; {plan.warning}"
        table.add_row(
            f"{line.source}.{line.table}",
            Text(line.due, style="bold red" if line.error else "dim" if line.due == "nothing waits" else "bold"),
            "" if line.rows is None else f"{line.rows:,}",
            plan.path if plan else "",
            (plan.lower or "the beginning") if plan else "",
            why,
        )
    return table


def preview_parts(name: str, preview: Preview) -> list[Table | Text | JSON]:
    """`medallion preview`: what was found, each field, the first records."""
    facts = grid(f"Preview of {name}", ["what", "declared", "the answer suggests"])
    found = preview.detected
    facts.add_row(
        "records on the first page", str(preview.on_page), f"{len(found.found)} at {found.records or 'the root'!r}"
    )
    facts.add_row(
        "total", "" if preview.total is None else f"{preview.total:,}", f"at {found.total!r}" if found.total else ""
    )
    facts.add_row("pagination", preview.declared, found.pagination)
    facts.add_row("key", "", f"{found.key} ({found.key_type})")
    facts.add_row("cursor", "", found.cursor_field or "")
    fields = grid("Fields", ["field", "kinds"])
    for field, kinds in preview.fields.items():
        fields.add_row(field, kinds)
    return [facts, fields, *(JSON(record.decode("utf-8", errors="replace")) for record in preview.records)]
