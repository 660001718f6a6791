"""`medallion`: the front door.

Exit codes: 0 done · 1 data refused (checks) · 2 usage or declaration · 3 a source, the warehouse or the Prefect server
failed · 130 cancelled by Ctrl-C · 143 told to end.

Prefect, dbt and the demo's data are imported inside the commands that need them: `medallion --help` answers at once.
So are the declared sources: a wrong declaration is refused where they are imported, and becomes a panel like any error.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from datetime import datetime
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from flows.cli import backup as backups
from flows.cli import dev, model, restore, roles, rollback, source_tables, sources, stack
from flows.cli.deploy import deploy
from flows.cli.erase import erase, purge
from flows.cli.migrate import migrate
from flows.cli.promote import promote
from flows.cli.registration import registered
from flows.cli.review import review
from flows.cli.terminal import console, keep_private, prepare, problems
from flows.cli.worker import env, worker
from flows.declare.partition import Every
from flows.failures.diagnose import diagnose
from flows.observe import look
from flows.values.errors import MedallionError, Stopped


class _Commands(TyperGroup):
    """The commands. A stop is told like any end: click would say "Aborted." with the exit code of refused data."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _stopped("cancelled by a person", ctx.invoked_subcommand) from None
        except BaseException as stop:
            # Prefect's word for the signal to end, told by its name: not every command imports Prefect.
            if type(stop).__name__ != "TerminationSignal":
                raise
            error = _stopped("told to end by a signal", ctx.invoked_subcommand)
            error.exit_code = 143  # as shells have it
            raise error from None


def _stopped(what: str, command: str | None) -> Stopped:
    again = "run it again when you want it: it goes on from the last commit"
    return Stopped(what, where=f"medallion {command or ''}".rstrip(), fix=again)


app = typer.Typer(
    name="medallion",
    cls=_Commands,
    help="A data platform in one command: databases and APIs → raw → silver → gold, with nothing lost on the way.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # its tracebacks show local variables, which hold passwords
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(worker)
app.command()(env)
app.command()(sources.preview)
app.add_typer(sources.add, name="add")
app.add_typer(dev.app, name="dev")
app.add_typer(model.app, name="model")
app.command()(model.docs)
app.command()(review)
app.add_typer(backups.app, name="backup")
app.command()(restore.restore)
app.command()(restore.drill)
app.command()(migrate)
app.command()(deploy)
app.command()(promote)
app.add_typer(rollback.app, name="rollback")
app.command()(erase)
app.command()(purge)
# Its name until 0.1; scripts of users may have it for one release more.
app.command("retain", hidden=True)(purge)
app.command()(roles.url)
app.command()(roles.rotate)

SourceNames = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="shop, or shop.baskets; all when left out")
]


@app.command()
def demo() -> None:
    """Everything once, on real data: stack, sources, day one, day two, and what came of it."""
    keep_private()
    from demo.story import tell

    tell(console)


@app.command()
def plan(sources: SourceNames = None) -> None:
    """Show what a run would do: tables, cursors, rows waiting, paths. Touches nothing."""
    from flows.verbs.find import choose
    from flows.verbs.plan import plan_sources

    with console.status("looking at both ends"):
        lines = asyncio.run(plan_sources(choose(sources)))
    console.print(source_tables.plan_table(lines))
    failed = [line.error for line in lines if line.error is not None]
    if failed:
        raise failed[0]


@app.command()
def run(
    sources: SourceNames = None,
    ingest_only: Annotated[bool, typer.Option("--ingest-only", help="Leave silver and gold as they are")] = False,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Build incremental models anew")] = False,
) -> None:
    """Load the sources and build gold: what the schedule does, now."""
    from flows.verbs.find import choose

    chosen = choose(sources)
    prepare()
    from flows.cli import watch

    watch.run(chosen, ingest_only=ingest_only, full_refresh=full_refresh, console=console)


@app.command()
def transform(
    select: Annotated[
        str | None, typer.Option("--select", "-s", help="dbt's selection, such as fct_basket_lines+")
    ] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Build incremental models anew")] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Build all beside gold, judge it, and exchange it in one transaction")
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Release, although readers lose tables, columns or most rows")
    ] = False,
) -> None:
    """Build silver and gold from raw as it stands, between the two quality gates."""
    if release and (select or full_refresh):
        raise typer.BadParameter("a release builds everything anew", param_hint="--release")
    if accept_changes and not release:
        raise typer.BadParameter("only a release asks for it", param_hint="--accept-changes")
    prepare()
    from flows.cli import watch

    if release:
        watch.release(accept_changes=accept_changes, console=console)
        return
    watch.transform(select=select, full_refresh=full_refresh, console=console)


@app.command()
def predict() -> None:
    """Train the churn model on gold, judge it by weeks it has not seen, and publish its scores."""
    prepare()
    from flows.cli import watch

    watch.predict(console=console)


@app.command()
def reconcile(
    sources: SourceNames = None,
    repair: Annotated[bool, typer.Option("--repair", help="Read the keys that differ again")] = False,
) -> None:
    """Compare raw with its sources by content, and find the rows that differ. Exit 1 when any do."""
    from flows.verbs.find import choose

    choose(sources)
    prepare()
    from flows.cli import watch

    watch.reconcile(sources, repair=repair, console=console)


@app.command()
def backfill(
    table: Annotated[str, typer.Argument(metavar="SOURCE.TABLE", help="shop.baskets")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day, which is read too")],
    by: Annotated[str | None, typer.Option("--by", help="The column of dates or times that divides the table")] = None,
    every: Annotated[str, typer.Option("--every", help="How long a partition is: day, week, month, year")] = "month",
    restart: Annotated[bool, typer.Option("--restart", help="Read partitions again that are in already")] = False,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show the partitions, touch nothing")] = False,
) -> None:
    """Read a stretch of days of one table again, partition by partition, beside the scheduled loads."""
    prepare()
    from flows.cli import watch

    watch.backfill(
        table,
        first.date(),
        last.date(),
        every=cast("Every", every),
        by=by,
        restart=restart,
        only_plan=only_plan,
        console=console,
    )


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 2 when a file differs")] = False,
) -> None:
    """Write what follows from the declared sources: dbt sources, raw contracts, deployments, docs/shape.md."""
    from flows.render import everything
    from flows.values.settings import PROJECT_ROOT

    changed = everything.check() if check else everything.write()
    for path in changed:
        console.print(f"  {'differs' if check else 'written'}: {path.relative_to(PROJECT_ROOT)}")
    if not changed:
        console.print("everything is as declared")
    if check and changed:
        problems.print("run `medallion render` and commit what it writes")
        raise typer.Exit(2)


@app.command()
def register() -> None:
    """Register blocks, work pools and limits at the Prefect API in force. Running it again changes nothing."""
    prepare()
    for line in registered():
        console.print(f"  {line}")


def main() -> None:
    """Run the command line; an error of ours becomes one clear panel and its exit code."""
    try:
        app()
    except MedallionError as error:
        problems.print(look.error_panel(error))
        sys.exit(error.exit_code)
    except Exception as problem:
        explained = _of_prefect(problem) or diagnose(problem, "medallion").error
        if type(explained) is MedallionError:
            # Nobody foresaw it: where it happened helps, its own words might quote rows or addresses.
            problems.print("".join(traceback.format_tb(problem.__traceback__)), highlight=False, markup=False)
        problems.print(look.error_panel(explained))
        sys.exit(explained.exit_code)


def _of_prefect(problem: Exception) -> MedallionError | None:
    """What it says of the Prefect server, if this process has asked one at all."""
    if "prefect" not in sys.modules:
        return None
    from flows.tasks.server import explain_server

    return explain_server(problem)


if __name__ == "__main__":
    main()
