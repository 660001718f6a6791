"""Tables of `medallion plan`, `medallion preview` and `medallion cursor`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.json import JSON
from rich.table import Table
from rich.text import Text

from flows.observe.look import grid
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.kinds.answers import Preview
    from flows.verbs.cursor import Move, StoredCursor
    from flows.verbs.plan import PlanLine
    from flows.verbs.planned_budgets import BudgetUse


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


def budget_words(uses: Iterable[BudgetUse]) -> Iterator[tuple[str, bool]]:
    """Under a plan: what it would use of each limit of a budget, and whether a run would stop at it."""
    for use in uses:
        about = "" if use.unit == "rows" else "about "
        words = f"Budget of {use.scope}: {about}{_amount(use, use.used)} of {_amount(use, use.limit)} ({use.share:.0%})"
        exceeds = use.share > 1
        if exceeds:
            words += "; the run would stop at it, or be refused: docs/budgets.md"
        if use.unknown:
            words += f"; not known of {', '.join(use.unknown[:5])}" + (" and others" if len(use.unknown) > 5 else "")
        yield words, exceeds


def _amount(use: BudgetUse, amount: float) -> str:
    match use.unit:
        case "rows":
            return f"{amount:,.0f} rows"
        case "bytes":
            return f"{amount / 1e6:,.1f} MB"
        case "minutes":
            return f"{amount:,.1f} min"
        case "money":
            return f"{amount:,.2f} {settings().price_currency}"


def preview_parts(name: str, preview: Preview) -> list[Table | Text | JSON]:
    """`medallion preview`: facts of the endpoint, its fields, the first records."""
    facts = grid(f"Preview of {name}", ["what", "declared", "found"])
    for fact in preview.facts:
        facts.add_row(*fact)
    fields = grid("Fields", ["field", "kinds"])
    for field, kinds in preview.fields.items():
        fields.add_row(field, kinds)
    return [facts, fields, *(JSON(record.decode("utf-8", errors="replace")) for record in preview.records)]


def cursors_table(cursors: Iterable[StoredCursor]) -> Table:
    """`medallion cursor show`."""
    table = grid("Stored cursors", ["table", "value", "belongs to", "of batch", "stored at (UTC)"], ["of batch"])
    for stored in cursors:
        table.add_row(
            stored.table,
            stored.value or "none",
            _belongs_to(stored),
            "" if stored.batch_id is None else str(stored.batch_id),
            "" if stored.updated_at is None else f"{stored.updated_at:%Y-%m-%d %H:%M:%S}",
        )
    return table


def _belongs_to(stored: StoredCursor) -> str:
    cursor, source = stored.identity.get("cursor") or {}, stored.identity.get("source") or {}
    named = [f"{cursor['kind']}({cursor.get('column') or cursor.get('parameter') or ''})"] if cursor else []
    named += [str(source[part]) for part in ("database",) if source.get(part)]
    named += [f"{part} {source[part]}" for part in ("system", "timeline", "server") if source.get(part)]
    if stored.words and stored.value:
        named.append(stored.words)
    if limit := stored.identity.get("limited"):
        named.append(f"a sample of {limit:,} rows at most")
    return ", ".join(named)


def moves_table(moves: Iterable[Move]) -> Table:
    """`medallion cursor set`, `reset` and `medallion reload --plan`: the next load from there."""
    table = grid("The next load", ["table", "cursor before", "after", "rows", "strategy", "why"], ["rows"])
    for move in moves:
        way = {True: "rows are read again; ", False: "rows in between are skipped; ", None: ""}[move.goes_back]
        warning = f"; {move.plan.warning}" if move.plan.warning else ""
        table.add_row(
            move.table,
            move.before or "none",
            move.after or "the beginning",
            "" if move.rows is None else f"{move.rows:,}",
            move.plan.strategy,
            f"{way}{move.plan.reason}{warning}",
        )
    return table
