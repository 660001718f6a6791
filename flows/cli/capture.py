"""`medallion capture`: slot and publication of a source whose log is read."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flows.cli.capture_tables import status_parts, steps_table
from flows.cli.terminal import console, prepare

app = typer.Typer(no_args_is_help=True, help="Change capture: set up, watch and drop the slot of a source.")

_Source = Annotated[str, typer.Argument(metavar="SOURCE", help="For example shop")]


@app.command()
def setup(
    source: _Source,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show the statements; run none")] = False,
) -> None:
    """Create what is missing at the source: publication and slot. Shows what needs an administrator.

    Statements run as the role that reads the source, or as MEDALLION_SOURCE_<CONNECTION>_OWNER_URL if that is set. From
    then on the source keeps its WAL until changes are loaded. Exit code 3 if a statement was refused.
    """
    from flows.verbs.capture import missing, set_up

    prepare(asks_server=False)
    steps = asyncio.run(missing(source) if only_plan else set_up(source))
    console.print(steps_table(steps) if steps else f"[dim]nothing is missing; medallion run {source} loads it[/]")
    if not only_plan and any(not step.done for step in steps):
        raise typer.Exit(3)


@app.command()
def status(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Default: all captured")] = None,
) -> None:
    """Show slots, retained WAL, and the position of each table. Changes nothing. Exit code 3 if changes are lost."""
    from flows.verbs.capture import status as statuses

    prepare(asks_server=False)
    found = asyncio.run(statuses(sources))
    for one in found:
        for part in status_parts(one):
            console.print(part)
    if not found:
        console.print("[dim]no source is declared with capture=Log()[/]")
    if any(not one.is_well for one in found):
        raise typer.Exit(3)


@app.command()
def drop(source: _Source) -> None:
    """Drop slot and publication at the source, so that it no longer keeps WAL for us. Raw stays as it is.

    To go back to loads by cursor, remove capture=Log() from the declaration as well.
    """
    from flows.verbs.capture import drop as drop_capture

    prepare(asks_server=False)
    steps = asyncio.run(drop_capture(source))
    console.print(steps_table(steps) if steps else "[dim]there is neither a slot nor a publication[/]")
    if any(not step.done for step in steps):
        raise typer.Exit(3)
