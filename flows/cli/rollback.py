"""`medallion rollback`: restore an earlier version of models or deployments."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from flows.cli.deploy import OnlyPlan, Remove, Yes, show_and_apply
from flows.cli.terminal import console, prepare

app = typer.Typer(help="Restore an earlier version of models or deployments.", no_args_is_help=True)


@app.callback()
def rollback() -> None:
    """Restore an earlier version of models or deployments."""


@app.command()
def models(
    by: Annotated[
        str | None, typer.Option("--by", help="Who withdraws the release; default: the account's name")
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Only drop the previous release, which is kept for a rollback")
    ] = False,
) -> None:
    """Swap gold back to the previous release, in one transaction. Running it twice rolls forward again."""
    from flows.models.rollback import drop_previous, roll_back_models

    if drop:
        dropped = drop_previous()
        console.print(f"dropped the previous {', '.join(dropped)}" if dropped else "nothing to drop")
        return
    with console.status("rolling back"):
        done = roll_back_models(by or getpass.getuser())
    console.print(
        f"readers now see {_named(done.restored)}; {_named(done.withdrawn)} is kept; readers were blocked for "
        f"{done.swapped.seconds * 1000:.0f} ms"
    )
    console.print("deploy the code that built it, and run `medallion transform`: raw has changed meanwhile")


def _named(release: int | None) -> str:
    return "the tables built in place" if release is None else f"release {release}"


@app.command("deployments")
def deployments(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENVIRONMENT]", help="dev, staging or production; MEDALLION_ENVIRONMENT")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The version or a prefix of it; default: the previous version")
    ] = None,
    only_plan: OnlyPlan = False,
    yes: Yes = False,
    remove: Remove = False,
) -> None:
    """Restore an earlier version's deployments. Blocks, and the code of a clone, are not changed."""
    prepare()
    from deployments.deploy import rollback, session
    from deployments.environments import current, find_environment

    chosen = find_environment(environment) if environment else current()
    with session() as server:
        with console.status("reading the server"):
            found = rollback(server, chosen, to=to, remove=remove)
        show_and_apply(server, found, chosen, only_plan=only_plan, yes=yes, remove=remove)
