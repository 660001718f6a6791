"""`medallion erase` and `medallion purge`: what ends, because a person asked or because its term is over."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flows.cli import erase_tables
from flows.cli.terminal import console, prepare


def erase(
    subject: Annotated[str, typer.Option("--subject", help="The kind of person: household")],
    key: Annotated[str | None, typer.Option("--key", help="Whose rows; asked for when left out")] = None,
    do: Annotated[bool, typer.Option("--erase", help="Delete; without it only a plan is shown")] = False,
    despite_source: Annotated[
        bool, typer.Option("--despite-source", help="Although the source holds the person still")
    ] = False,
) -> None:
    """Delete a person's rows from every table, and prove that nothing is left. Shows a plan first; exit 1 if any is."""
    prepare(asks_server=False)
    from flows.privacy import erase as story

    declared = story.find_subject(subject)
    # Asked for, it stands in no list of processes and no shell's history.
    chosen = key if key is not None else typer.prompt(f"{declared.key} of the {subject}", hide_input=True)
    with console.status("looking at every table"):
        if do:
            done = asyncio.run(story.erase(declared, chosen, despite_source=despite_source))
        else:
            done = asyncio.run(story.plan_erasure(declared, chosen))
    for part in erase_tables.erasure_parts(subject, done, planned=not do):
        console.print(part)
    if do and (done.remains or done.closed):
        raise typer.Exit(1)


def purge(
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it only a plan is shown")] = False,
) -> None:
    """Show what is beyond its retention term, per place; with --delete, delete it in batches and record it."""
    prepare(asks_server=False)
    from flows.purge import purge_expired

    with console.status("looking at every table"):
        lines = asyncio.run(purge_expired(delete=delete))
    console.print(erase_tables.retention_table(lines, deleted=delete))
