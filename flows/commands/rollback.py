"""`medallion rollback`: an earlier version put back."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.deploy import OnlyPlan, Remove, Yes, show_and_apply
from flows.commands.terminal import console, prepare

app = typer.Typer(help="Put an earlier version back.", no_args_is_help=True)


@app.callback()
def rollback() -> None:
    """Put an earlier version back."""


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
