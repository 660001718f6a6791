"""`medallion recover`: tables brought back to what their sources hold, in one command with a preview."""

from __future__ import annotations

import asyncio
import getpass
import sys
import time
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.terminal import console, prepare, problems
from flows.observe.look import grid, styled
from flows.values.price import Price
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.verbs.recover import Recovered
    from flows.verbs.recovery import Plan

_DAY = ["%Y-%m-%d"]


def recover(
    tables: Annotated[list[str], typer.Argument(metavar="SOURCE[.TABLE]...", help="For example shop or shop.baskets")],
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="Read the days from here on again")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=_DAY, help="The last day, inclusive; default: today")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="The date or timestamp column that divides the table into days")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded with your name")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation")] = False,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show what it would do; change nothing")] = False,
) -> None:
    """Bring tables back to what their sources hold: compare, show what it would do, do it, and compare again.

    It loads what is pending, reads differing keys again, reloads, or replays quarantine, whatever is needed; with
    --from it reads those days again, or sets the cursor back. Scheduled loads may run meanwhile. If it is killed, the
    same command resumes it. Exit 1 if differences remain, 2 if it may not ask.
    """
    from flows.privacy.returned import erase_returned
    from flows.verbs.recover import Agreed
    from flows.verbs.recover import recover as carry_out
    from flows.verbs.recovery import Asked
    from flows.verbs.recovery_preview import look

    prepare(asks_server=False)
    asked = Asked(_day(first), _day(last), by)
    with console.status("comparing both ends"):
        plans, looked_at = asyncio.run(look(tables, asked)), time.monotonic()
    _show(plans)
    problem = next((plan.found.error for plan in plans if plan.found.error is not None), None)
    if only_plan or not any(plan.is_needed for plan in plans):
        if only_plan:
            console.print("[dim]nothing was changed[/]")
        if problem is not None:
            raise problem
        raise typer.Exit(1 if any(plan.left for plan in plans) else 0)
    agreed = Agreed(getpass.getuser(), _agree(reason, yes=yes), looked_at)
    done = asyncio.run(carry_out(plans, asked, agreed, erase_returned))
    console.print(_outcome(done))
    failed = problem or next((one.error for one in done if one.error is not None), None)
    if failed is not None:
        raise failed
    if not all(one.agrees for one in done) or any(plan.left for plan in plans):
        raise typer.Exit(1)


def _agree(reason: str, *, yes: bool) -> str:
    """The reason, once a person has agreed."""
    if not yes and not (sys.stdin.isatty() and console.is_terminal):
        problems.print("nothing was changed: there is nobody to ask; add --yes and --reason")
        raise typer.Exit(2)
    if not reason.strip() and yes:
        problems.print('nothing was changed: --yes needs a --reason "…", which is recorded')
        raise typer.Exit(2)
    if not yes and not typer.confirm("Do this?", default=False):
        console.print("nothing was changed")
        raise typer.Exit(2)
    return reason.strip() or str(typer.prompt("Why (it is recorded)"))


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _show(plans: Sequence[Plan]) -> None:
    table = grid("Recovery", ["table", "found", "would do", "rows", "about", "cost"], ["rows", "about", "cost"])
    for plan in plans:
        about, cost = _estimate(plan)
        table.add_row(
            plan.found.name, _found(plan), _would_do(plan), "" if not plan.rows else f"{plan.rows:,}", about, cost
        )
    console.print(table)
    for plan in plans:
        if plan.found.interrupted is not None:
            said = f"{plan.found.name}: a recovery was killed ({plan.found.interrupted}); this one completes it"
            console.print(f"[yellow]{escape(said)}[/]", highlight=False, soft_wrap=True)
        for word in plan.left:
            said = escape(f"{plan.found.name}: {word}")
            console.print(f"[yellow]Not recovered[/] {said}", highlight=False, soft_wrap=True)


def _found(plan: Plan) -> str:
    found = plan.found
    if found.error is not None:
        return found.error.what
    if not found.is_loaded:
        return "never loaded"
    compared = found.compared
    counted = (
        []
        if compared is None
        else [
            f"{rows:,} {word}"
            for word in ("missing", "extra", "different", "duplicate")
            if (rows := getattr(compared, word))
        ]
    )
    if found.pending:
        counted.append(f"{found.pending:,} pending")
    if found.replayable:
        counted.append(f"{found.replayable:,} in quarantine may be loaded")
    words = [*([found.unfinished] if found.unfinished else []), *([", ".join(counted)] if counted else [])]
    return "; ".join(words) or (compared.result if compared is not None else "not compared")


def _would_do(plan: Plan) -> str:
    return "nothing" if not plan.steps else "; ".join(f"{step.action}: {step.why}" for step in plan.steps)


def _estimate(plan: Plan) -> tuple[str, str]:
    """Minutes and money, by the table's last load."""
    if plan.rows is None or plan.found.cost is None or not plan.rows:
        return "", ""
    size, seconds = (each * plan.rows for each in plan.found.cost)
    price = Price.declared()
    cost = f"{price.cost(size, seconds=seconds):,.2f} {settings().price_currency}" if price else ""
    return f"{seconds:,.0f} s" if seconds < 90 else f"{seconds / 60:,.0f} min", cost


def _outcome(done: Sequence[Recovered]) -> Table:
    table = grid("Recovered", ["table", "done", "result", "differences", "persons erased again"], ["differences"])
    for one in done:
        result = "failed" if one.error is not None else one.after.result if one.after is not None else ""
        table.add_row(
            one.table,
            one.plan,
            styled(result),
            "" if one.after is None else f"{one.after.differences:,}",
            f"{one.forgotten:,}" if one.forgotten else "",
        )
    return table
