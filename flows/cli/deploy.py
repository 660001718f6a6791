"""`medallion deploy`: bring an environment's Prefect server to what is declared, after showing a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import console, prepare, problems

if TYPE_CHECKING:
    from deployments.deploy import Prospect, Session
    from deployments.environments import Environment

#: `--plan` found something to change; the same code as `render --check`.
DIFFERS = 2

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation")]
OnlyPlan = Annotated[bool, typer.Option("--plan", help="Only show what would change; exit 2 if anything would")]
Remove = Annotated[bool, typer.Option("--remove", help="Delete what was deployed before and is no longer declared")]


def deploy(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENVIRONMENT]", help="dev, staging or production; MEDALLION_ENVIRONMENT")
    ] = None,
    only_plan: OnlyPlan = False,
    yes: Yes = False,
    remove: Remove = False,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Undo pauses and limits set by hand at the server")
    ] = False,
    pool: Annotated[str | None, typer.Option("--pool", help="The work pool of runs; remembered by the server")] = None,
    image: Annotated[str | None, typer.Option("--image", help="The image of runs; remembered by the server")] = None,
    base_job_template: Annotated[
        Path | None, typer.Option("--base-job-template", help="The pool's base job template, a JSON file")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="The version's name; default: from git")] = None,
    schedules: Annotated[
        bool | None,
        typer.Option(
            "--schedules/--no-schedules",
            help="Switch schedules and their automations on or off; default: as the environment declares, "
            "or as chosen before (the server remembers it)",
        ),
    ] = None,
) -> None:
    """Show what would change at the configured Prefect server, ask, and apply it. Idempotent."""
    prepare()
    from deployments.deploy import Choice, prospect, session
    from deployments.environments import current, find_environment

    chosen = find_environment(environment) if environment else current()
    choice = Choice(chosen, pool, image, base_job_template, version, schedules)
    with session() as server:
        with console.status("reading the server"):
            found = prospect(server, choice, remove=remove, overrule=overrule)
        show_and_apply(server, found, chosen, only_plan=only_plan, yes=yes, remove=remove)


def show_and_apply(
    session: Session, found: Prospect, environment: Environment, *, only_plan: bool, yes: bool, remove: bool
) -> None:
    """Show the plan; then, unless only the plan was requested, ask, apply it and show the next runs."""
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
        console.print("done; the server matches what is declared")
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
        problems.print("standard input is no terminal: add --yes to change the server, or --plan to show the plan")
        raise typer.Exit(2)
    if environment.asks_for_name:
        answer = typer.prompt(f"type {environment.name} to apply the changes", default="", show_default=False)
        agreed = answer.strip() == environment.name
    else:
        agreed = typer.confirm("apply the changes?", default=False)
    if not agreed:
        console.print("nothing was changed")
        raise typer.Exit(0)
