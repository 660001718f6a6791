"""`medallion deploy`: what an environment's Prefect server holds, made what is declared; a plan first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import console, prepare, problems

if TYPE_CHECKING:
    from deployments.deploy import Prospect, Session
    from deployments.environments import Environment

#: `--plan` found something to change: as `render --check`, which finds files to change.
DIFFERS = 2

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
OnlyPlan = Annotated[bool, typer.Option("--plan", help="Only show what would change; exit 2 when anything would")]
Remove = Annotated[bool, typer.Option("--remove", help="Delete what we once deployed and no longer declare")]


def deploy(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENVIRONMENT]", help="dev, staging or production; MEDALLION_ENVIRONMENT")
    ] = None,
    only_plan: OnlyPlan = False,
    yes: Yes = False,
    remove: Remove = False,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Put back what was paused or limited by hand at the server")
    ] = False,
    pool: Annotated[str | None, typer.Option("--pool", help="Where runs run; remembered by the server")] = None,
    image: Annotated[str | None, typer.Option("--image", help="The image of runs; remembered by the server")] = None,
    base_job_template: Annotated[
        Path | None, typer.Option("--base-job-template", help="The pool's job template, a file of JSON")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="What to call it; git's name for it, if any")] = None,
    schedules: Annotated[
        bool | None,
        typer.Option(
            "--schedules/--no-schedules",
            help="Whether schedules and automations that follow are on; as the environment declares unless chosen, "
            "then remembered by the server",
        ),
    ] = None,
) -> None:
    """Show what would change at the Prefect server in force, ask, and change it. Running it again changes nothing."""
    prepare()
    from deployments.deploy import Choice, prospect, session
    from deployments.environments import current, find_environment

    chosen = find_environment(environment) if environment else current()
    choice = Choice(chosen, pool, image, base_job_template, version, schedules)
    with session() as server:
        with console.status("looking at the server"):
            found = prospect(server, choice, remove=remove, overrule=overrule)
        show_and_apply(server, found, chosen, only_plan=only_plan, yes=yes, remove=remove)


def show_and_apply(
    session: Session, found: Prospect, environment: Environment, *, only_plan: bool, yes: bool, remove: bool
) -> None:
    """The plan on the terminal; then, unless only the plan was requested, the question, the changes, the next runs."""
    from deployments.deploy import apply
    from flows.cli.deploy_screens import prospect_parts, verdict

    for part in prospect_parts(found, removing=remove):
        console.print(part)
    console.print(verdict(found))
    if only_plan:
        if found.pending:
            raise typer.Exit(DIFFERS)
        return
    if found.pending:
        if not yes:
            _ask(environment)
        apply(session, found, on_change=lambda change: console.print(f"  {change.action}  {change.resource.name}"))
        console.print("done; running it again would change nothing")
    _show_next_runs(session, found)


def _show_next_runs(session: Session, found: Prospect) -> None:
    from deployments.next_runs import refuse_unplanned, wait_for_next_runs
    from flows.cli.deploy_screens import next_runs_table

    names = [name.partition("/")[2] for kind, name in found.record.last if kind == "deployment"]
    with console.status("waiting for the scheduler"):
        runs = wait_for_next_runs(session.server, names)
    if runs:
        console.print(next_runs_table(runs))
    refuse_unplanned(session.server, runs)


def _ask(environment: Environment) -> None:
    if not console.is_terminal:
        problems.print("nobody is here to ask: say --yes to change the server, or --plan to look")
        raise typer.Exit(2)
    if environment.asks_for_name:
        answer = typer.prompt(f"type {environment.name} to change it", default="", show_default=False)
        agreed = answer.strip() == environment.name
    else:
        agreed = typer.confirm("change it?", default=False)
    if not agreed:
        console.print("nothing was changed")
        raise typer.Exit(0)
