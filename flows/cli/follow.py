"""`medallion follow`: changes as they happen."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.terminal import console, prepare
from flows.values.errors import BudgetReached


def follow(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="For example shop")],
    tables: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="End after so many minutes")] = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End once everything is loaded that is committed now")
    ] = False,
) -> None:
    """Load a source's changes as they happen, until Ctrl-C or SIGTERM. For sources declared with capture=Log().

    It stops within seconds, at a commit. Exit 4 if it stopped at a budget.
    """
    from flows.kinds.registry import kind_of
    from flows.verbs.find import find_source

    declared = find_source(source)
    kind_of(declared).refuse_follow(declared)
    chosen = [declared.table(table).name for table in tables or []]
    prepare()
    from flows.cli import follow_screen

    if follow_screen.follow(source, chosen or None, minutes=minutes, until_caught_up=until_caught_up, console=console):
        raise typer.Exit(BudgetReached.exit_code)
