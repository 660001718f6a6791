"""`medallion capture`: what capture of changes has at a source: slot and publication, or triggers."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flows.cli.capture_tables import status_parts, steps_table
from flows.cli.terminal import console, prepare

app = typer.Typer(
    no_args_is_help=True, help="Change capture: set up, watch and drop the slot or the triggers of a source."
)

_Source = Annotated[str, typer.Argument(metavar="SOURCE", help="For example shop")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Triggers: do not ask")]


@app.command()
def setup(
    source: _Source,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show the statements; run none")] = False,
    yes: _Yes = False,
) -> None:
    """Create what is missing at the source: publication and slot, or change tables and triggers.

    Statements run as the role that reads the source, or as MEDALLION_SOURCE_<CONNECTION>_OWNER_URL if that is set.
    Triggers are shown first, and created after a confirmation. From then on the source keeps its WAL, or the keys of
    changed rows, until changes are loaded. Exit code 3 if a statement was refused.
    """
    from flows.verbs.capture import asks, missing, set_up

    prepare(asks_server=False)
    if only_plan or asks(source):
        planned = asyncio.run(missing(source))
        console.print(
            steps_table(planned) if planned else f"[dim]nothing is missing; medallion run {source} loads it[/]"
        )
        if only_plan or not planned:
            return
        if not yes:
            typer.confirm("Run these statements at the source?", abort=True)
    steps = asyncio.run(set_up(source))
    console.print(steps_table(steps) if steps else f"[dim]nothing is missing; medallion run {source} loads it[/]")
    if any(not step.done for step in steps):
        raise typer.Exit(3)


@app.command()
def status(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Default: all captured")] = None,
) -> None:
    """Show slots with retained WAL, and triggers with what waits. Changes nothing. Exit code 3 if changes are lost."""
    from flows.verbs.capture import status as statuses

    prepare(asks_server=False)
    found = asyncio.run(statuses(sources))
    for one in found:
        for part in status_parts(one):
            console.print(part)
    if not found:
        console.print("[dim]no source is declared with capture=Log() or capture=Triggers()[/]")
    if any(not one.is_well for one in found):
        raise typer.Exit(3)


@app.command()
def drop(source: _Source, yes: _Yes = False) -> None:
    """Drop slot and publication, or triggers and change tables, at the source. Raw stays as it is.

    To go back to loads by cursor, remove capture from the declaration as well.
    """
    from flows.verbs.capture import asks
    from flows.verbs.capture import drop as drop_capture

    prepare(asks_server=False)
    if asks(source) and not yes:
        typer.confirm(f"Drop the triggers and change tables of {source}?", abort=True)
    steps = asyncio.run(drop_capture(source))
    console.print(steps_table(steps) if steps else "[dim]there is nothing to drop[/]")
    if any(not step.done for step in steps):
        raise typer.Exit(3)
