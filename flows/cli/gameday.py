"""`medallion gameday`: faults at random in a private world, and a report of what came of them."""

from __future__ import annotations

import secrets
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.terminal import console
from flows.observe.look import grid
from flows.values.settings import settings

if TYPE_CHECKING:
    from rich.table import Table

    from infra.gameday.report import Report


def gameday(
    minutes: Annotated[float, typer.Option("--minutes", min=1, help="The faults are spread over so many minutes")] = 60,
    faults: Annotated[int, typer.Option("--faults", min=1, help="How many faults")] = 20,
    only: Annotated[list[str] | None, typer.Option("--only", help="A fault by its name; may be repeated")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats the plan of an earlier game day")] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Where the report is written, as Markdown; JSON beside it", show_default=False),
    ] = None,
    show_plan: Annotated[bool, typer.Option("--plan", help="Only show which faults would be caused, and when")] = False,
) -> None:
    """Cause faults at random in a private copy of the platform, and report whether it noticed and recovered.

    It starts servers of its own on this machine, and never touches yours. docs/gameday.md has the faults.
    """
    from infra.gameday.faults import FAULTS, plan

    known = {fault.name for fault in FAULTS}
    if unknown := set(only or ()) - known:
        raise typer.BadParameter(
            f"there is no fault {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}"
        )
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    planned = plan(faults, minutes, chosen, only or ())
    console.print(f"Game day of {len(planned)} faults over {minutes:g} minutes, seed {chosen}", highlight=False)
    if show_plan:
        table = grid("Plan", ["minute", "fault", "what", "severity"])
        for each in planned:
            table.add_row(f"{each.second / 60:.1f}", each.fault.name, each.fault.what, each.fault.severity or "")
        console.print(table)
        return
    from infra.gameday.game import Game

    page = report or settings().home / "gamedays" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.md"
    logs = page.with_suffix(".logs")
    former = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        played = Game(planned, chosen, progress=_progress, logs=logs).play()
    finally:
        signal.signal(signal.SIGTERM, former)
    facts = played.save(page)
    console.print(outcome_table(played))
    for name, held in played.invariants().items():
        console.print(f"  {'[green]✓[/]' if held else '[bold red]✗[/]'} {name}", highlight=False)
    console.print(f"report: {page}, {facts}", highlight=False, soft_wrap=True)
    if not played.passed:
        console.print(f"logs: {logs}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def outcome_table(played: Report) -> Table:
    """A line per fault: when it was noticed, when everything was well again, what is wrong with it."""
    from infra.gameday.report import seconds

    table = grid("Game day", ["fault", "detected after", "recovered after", "result"])
    for outcome in played.outcomes:
        result = "[green]passed[/]" if outcome.passed else f"[bold red]{escape('; '.join(outcome.problems))}[/]"
        table.add_row(outcome.name, seconds(outcome.detected_seconds), seconds(outcome.recovered_seconds), result)
    return table


def _progress(line: str) -> None:
    console.print(f"[dim]{datetime.now(UTC):%H:%M:%S}[/] {escape(line)}", highlight=False)


def _as_interrupt(*_: Any) -> None:
    """So that everything is ended and removed after SIGTERM, as after Ctrl-C."""
    raise KeyboardInterrupt
