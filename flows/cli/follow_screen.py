"""Run the follow flow from the command line and show what it does. Imports Prefect: call `prepare` first."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.console import Console
from rich.markup import escape

from flows.cli.watch import watched
from flows.follow import follow as follow_flow
from flows.tasks.correlation import tagged_runs


def follow(
    source: str, tables: list[str] | None, *, minutes: float | None, until_caught_up: bool, console: Console
) -> bool:
    """Run the follow flow; then show what it did. True if it stopped at a budget.

    Raises:
        MedallionError: what the flow raised.
    """
    facts: dict[str, Any] = {}

    def start() -> None:
        facts.update(asyncio.run(follow_flow(source, tables, minutes, until_caught_up)))

    with tagged_runs():
        error = watched(start, console)
    if error is not None:
        raise error
    console.print(f"{source}: {facts['changes']:,} changes in {facts['commits']:,} commits", highlight=False)
    if facts["stopped"]:
        console.print(f"[bold yellow]Stopped[/] {escape(facts['stopped'])}", highlight=False, soft_wrap=True)
    return facts["stopped"] is not None
