"""`medallion rollback`: an earlier version put back."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from flows.cli.deploy import OnlyPlan, Remove, Yes, show_and_apply
from flows.cli.terminal import console, prepare

app = typer.Typer(help="Put an earlier version back.", no_args_is_help=True)


@app.callback()
def rollback() -> None:
    """Put an earlier version back."""


@app.command()
def models(
    by: Annotated[str | None, typer.Option("--by", help="Who withdraws the release; the account's name")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Only drop what is kept for the way back")] = False,
) -> None:
    """Give readers what they had before the last release, in one transaction. Twice is forward again."""
    from flows.models.rollback import drop_previous, roll_back_models

    if drop:
        dropped = drop_previous()
        console.print(f"dropped the previous {', '.join(dropped)}" if dropped else "there was nothing to drop")
        return
    with console.status("going back"):
        done = roll_back_models(by or getpass.getuser())
    console.print(
        f"readers have {_named(done.restored)}, {_named(done.withdrawn)} is kept; they stood still for "
        f"{done.exchanged.seconds * 1000:.0f} ms"
    )
    console.print("deploy the code that built it, and run `medallion transform`: raw has gone on meanwhile")


def _named(release: int | None) -> str:
    return "what was built in place" if release is None else f"release {release}"


@app.command("deployments")
def deployments(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENVIRONMENT]", help="dev, staging or production; MEDALLION_ENVIRONMENT")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The version, or its beginning; the one before, when left out")
    ] = None,
    only_plan: OnlyPlan = False,
    yes: Yes = False,
    remove: Remove = False,
) -> None:
    """Make the server hold what an earlier version declared. Blocks, and the code of a clone, stay as they are."""
    prepare()
    from deployments.deploy import rollback, session
    from deployments.environments import current, find_environment

    chosen = find_environment(environment) if environment else current()
    with session() as server:
        with console.status("looking at the server"):
            found = rollback(server, chosen, to=to, remove=remove)
        show_and_apply(server, found, chosen, only_plan=only_plan, yes=yes, remove=remove)
