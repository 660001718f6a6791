"""`medallion erase` and `medallion purge`: erasure on request, and deletion after the retention period."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flows.cli import erase_tables
from flows.cli.erase_places import PREFECT, elsewhere
from flows.cli.terminal import console, prepare


def erase(
    subject: Annotated[
        str | None, typer.Option("--subject", help="The kind of data subject, for example household")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="The subject's key; prompted for by default")] = None,
    do: Annotated[bool, typer.Option("--erase", help="Delete the rows; without it, only the plan is shown")] = False,
    despite_source: Annotated[
        bool, typer.Option("--despite-source", help="Erase although the source still has the subject")
    ] = False,
    value: Annotated[
        list[str] | None,
        typer.Option("--value", help="An identifying value to search for too, such as a former e-mail address"),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Only draft paths in records of raw that may be the subject's key")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="After a restore: erase everybody again who was erased before")
    ] = False,
) -> None:
    """Delete a subject's rows from every table and verify that none is left. Without --erase, show the plan."""
    prepare(asks_server=False)
    from flows.privacy import erase as story
    from flows.privacy.again import erase_again
    from flows.privacy.draft import draft_paths

    if again:
        with console.status("searching every table"):
            erasures = asyncio.run(erase_again(elsewhere=elsewhere()))
        for done in erasures:
            for part in erase_tables.erasure_parts("subject", done, planned=False):
                console.print(part)
        console.print(f"erased again: {len(erasures)}")
        if not all(done.proven for done in erasures):
            raise typer.Exit(1)
        return
    if subject is None:
        raise typer.BadParameter("name a kind of subject, or --again", param_hint="--subject")
    declared = story.find_subject(subject)
    if paths:
        with console.status("reading records"):
            drafted = asyncio.run(draft_paths(declared))
        for part in erase_tables.path_parts(subject, drafted):
            console.print(part, soft_wrap=True)
        return
    # A prompt keeps the key out of process lists and the shell's history.
    chosen = key if key is not None else typer.prompt(f"{declared.key} of the {subject}", hide_input=True)
    places = elsewhere()
    with console.status("searching every table"):
        if do:
            done = asyncio.run(
                story.erase(declared, chosen, despite_source=despite_source, elsewhere=places, values=value or ())
            )
        else:
            done = asyncio.run(story.plan_erasure(declared, chosen))
    for part in erase_tables.erasure_parts(subject, done, planned=not do):
        console.print(part)
    if do and PREFECT not in places.databases:
        console.print(f"[dim]{PREFECT} was not searched: its URL is not known here (docs/security.md)[/]")
    if do and not done.proven:
        raise typer.Exit(1)


def purge(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the rows; without it, only the plan is shown")
    ] = False,
) -> None:
    """Show data past its retention period, per place; with --delete, delete it in batches and record it."""
    prepare(asks_server=False)
    from flows.purge import purge_expired

    with console.status("searching every table"):
        lines = asyncio.run(purge_expired(delete=delete))
    console.print(erase_tables.retention_table(lines, deleted=delete))
