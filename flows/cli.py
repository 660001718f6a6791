"""`medallion`: the front door.

Exit codes: 0 done · 1 data refused (checks) · 2 usage or declaration · 3 a source or the warehouse failed.

Prefect, dbt and the demo's data are imported inside the commands that need them: `medallion --help` answers at once.
So are the declared sources: a wrong declaration is refused where they are imported, and becomes a panel like any error.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from flows import connections, screens
from flows.commands import backup as backups
from flows.commands import dev, model, rollback, sources
from flows.commands.deploy import deploy
from flows.commands.erase import erase, retain
from flows.commands.migrate import migrate
from flows.commands.promote import promote
from flows.commands.registration import registered
from flows.commands.review import review
from flows.commands.terminal import console, prepare, problems
from flows.connections import embedded_stack
from flows.recovery.failures import diagnose
from flows.settings import settings
from flows.spec import DatabaseConnection
from flows.spec.errors import MedallionError
from flows.spec.partition import Every
from flows.state import ledger
from flows.state.overview import Overview, read_overview

if TYPE_CHECKING:
    from infra.local.stack import ServiceStatus

app = typer.Typer(
    name="medallion",
    help="A data platform in one command: databases and APIs → raw → silver → gold, with nothing lost on the way.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # its tracebacks show local variables, which hold passwords
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(sources.preview)
app.add_typer(sources.add, name="add")
app.add_typer(dev.app, name="dev")
app.add_typer(model.app, name="model")
app.command()(model.docs)
app.command()(review)
app.add_typer(backups.app, name="backup")
app.command()(backups.restore)
app.command()(backups.drill)
app.command()(migrate)
app.command()(deploy)
app.command()(promote)
app.add_typer(rollback.app, name="rollback")
app.command()(erase)
app.command()(retain)

SourceNames = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="shop, or shop.baskets; all when left out")
]


@app.command()
def demo() -> None:
    """Everything once, on real data: stack, sources, day one, day two, and what came of it."""
    from demo.story import tell

    tell(console)


@app.command()
def up(commerce: Annotated[bool, typer.Option(help="Start the demo's commerce API too")] = False) -> None:
    """Start the embedded stack: PostgreSQL and a Prefect server. Harmless when it runs already."""
    from infra.local import stack

    with console.status("starting"):
        running = stack.up(on_step=lambda step: console.print(f"  {step}"), with_commerce=commerce)
        # What is set up here belongs to this stack, whatever other servers the environment names.
        os.environ["PREFECT_API_URL"] = running.prefect.api_url
        prepare()
        asyncio.run(_ensure_operations(DatabaseConnection("warehouse", running.urls["warehouse_loader"])))
        for line in registered():
            console.print(f"  {line}")
        if _archiver_starts():
            console.print("  The write-ahead log is archived")
    console.print(screens.addresses(running))


@app.command()
def down() -> None:
    """Stop what `up` started. Data stays in .medallion/ for the next `up`."""
    from infra.local import stack

    # The archiver goes last: PostgreSQL hands over its log to the end before it stops.
    stopped = [*stack.down(), *_archiver_stops()]
    console.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def plan(sources: SourceNames = None) -> None:
    """Show what a run would do: tables, cursors, rows waiting, paths. Touches nothing."""
    from flows.loads.declared import choose
    from flows.loads.planning import plan_sources

    with console.status("looking at both ends"):
        lines = asyncio.run(plan_sources(choose(sources)))
    console.print(screens.plan_table(lines))
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
    from flows.loads.declared import choose

    chosen = choose(sources)
    prepare()
    from flows import launch

    launch.run(chosen, ingest_only=ingest_only, full_refresh=full_refresh, console=console)


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
    from flows import launch

    if release:
        launch.release(accept_changes=accept_changes, console=console)
        return
    launch.transform(select=select, full_refresh=full_refresh, console=console)


@app.command()
def predict() -> None:
    """Train the churn model on gold, judge it by weeks it has not seen, and publish its scores."""
    prepare()
    from flows import launch

    launch.predict(console=console)


@app.command()
def reconcile(
    sources: SourceNames = None,
    repair: Annotated[bool, typer.Option("--repair", help="Read the keys that differ again")] = False,
) -> None:
    """Compare raw with its sources by content, and find the rows that differ. Exit 1 when any do."""
    from flows.loads.declared import choose

    choose(sources)
    prepare()
    from flows import launch

    launch.reconcile(sources, repair=repair, console=console)


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
    from flows import launch

    launch.backfill(
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
def status() -> None:
    """Show services, last runs, cursors and their lag, quarantine."""
    stack = embedded_stack()
    if stack is not None:
        from infra.local.stack import status as services

        console.print(screens.service_table([*services(), *_archiver_status()]))
    for table in screens.status_tables(asyncio.run(_overview())):
        console.print(table)


def _archiver_starts() -> bool:
    """Archive the embedded cluster's log, where a key says how it is to be sealed."""
    if settings().backup_key is None and settings().backup_key_file is None:
        return False  # without asking for packages that are an extra
    from infra.backup import service
    from infra.local.home import Home

    return service.start(Home.find()) is not None


def _archiver_stops() -> list[str]:
    from infra.backup import service
    from infra.local.home import Home

    return [service.NAME] if service.stop(Home.find()) else []


def _archiver_status() -> list[ServiceStatus]:
    from infra.backup import service
    from infra.local.home import Home

    return [service.status(Home.find())]


async def _ensure_operations(address: DatabaseConnection) -> None:
    async with connections.connect(address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)


async def _overview() -> Overview:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await read_overview(warehouse)


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 2 when a file differs")] = False,
) -> None:
    """Write what follows from the declared sources: dbt sources, raw contracts, deployments, docs/shape.md."""
    from flows.render import everything
    from flows.settings import PROJECT_ROOT

    changed = everything.check() if check else everything.write()
    for path in changed:
        console.print(f"  {'differs' if check else 'written'}: {path.relative_to(PROJECT_ROOT)}")
    if not changed:
        console.print("everything is as declared")
    if check and changed:
        problems.print("run `medallion render` and commit what it writes")
        raise typer.Exit(2)


@app.command()
def url(
    role: Annotated[connections.Role, typer.Option(help="Whose address")] = "reader",
) -> None:
    """Print the warehouse's address for a role, with its password: psql "$(medallion url)"."""
    typer.echo(connections.warehouse(role).url)


@app.command()
def rotate(
    role: Annotated[connections.Role, typer.Argument(help="Whose password")],
    now: Annotated[bool, typer.Option("--now", help="End the former password too: it got into wrong hands")] = False,
) -> None:
    """Give a role of the warehouse another account and password; what is at work goes on with the one before."""
    prepare()
    stack = embedded_stack()
    if stack is not None and stack["urls"].get(f"warehouse_{role}") == connections.warehouse(role).url:
        from infra.local.stack import rotate as rotate_embedded

        done = rotate_embedded(role, now=now)
    else:
        from flows.rotate import rotate_block

        done = rotate_block(role, now=now)
    console.print(f"the {role} comes as {done.account} from now on")
    if not now:
        console.print(f"{done.former} goes on working until the next rotation")


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
        problems.print(screens.error_panel(error))
        sys.exit(error.exit_code)
    except Exception as problem:
        explained = diagnose(problem, "medallion").error
        if type(explained) is MedallionError:
            # Nobody foresaw it: where it happened helps, its own words might quote rows or addresses.
            problems.print("".join(traceback.format_tb(problem.__traceback__)), highlight=False, markup=False)
        problems.print(screens.error_panel(explained))
        sys.exit(explained.exit_code)


if __name__ == "__main__":
    main()
