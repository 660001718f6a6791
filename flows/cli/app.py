"""`medallion`: the command line.

Exit codes: 0 done · 1 data refused (checks) · 2 usage or declaration · 3 a source, the warehouse or the Prefect server
failed · 4 waits for a person's decision · 130 cancelled by Ctrl-C · 143 terminated by a signal.

Prefect, dbt and the demo's data are imported inside the commands that need them, so that `medallion --help` is fast.
So are the declared sources: an invalid declaration raises at import and is shown as an error panel like any other.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli import (
    alerts,
    anomalies,
    capture,
    cursor,
    decide,
    dev,
    model,
    quarantine,
    restore,
    roles,
    rollback,
    run,
    runs,
    sources,
    stack,
    tune,
)
from flows.cli import backup as backups
from flows.cli.cost import cost
from flows.cli.dashboard import dashboard
from flows.cli.deploy import deploy
from flows.cli.diff import diff
from flows.cli.erase import erase, purge
from flows.cli.follow import follow
from flows.cli.freshness import freshness
from flows.cli.gameday import gameday
from flows.cli.metrics import metrics
from flows.cli.migrate import migrate
from flows.cli.one_run import as_one_run
from flows.cli.outside import watch
from flows.cli.plain_dbt import dbt
from flows.cli.promote import promote
from flows.cli.quality import quality
from flows.cli.receipt import receipt
from flows.cli.recover import recover
from flows.cli.registration import registered
from flows.cli.terminal import console, keep_private, prepare, problems
from flows.cli.unreadable_sources import of_declaration
from flows.cli.volume import volume
from flows.cli.worker import env, worker
from flows.failures.diagnose import diagnose
from flows.observe import look
from flows.values.errors import MedallionError, Stopped


class _Commands(TyperGroup):
    """The commands. A stop becomes an error: click would print "Aborted." with the exit code of refused data."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with as_one_run(_named(ctx)):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _stopped("cancelled with Ctrl-C", ctx.invoked_subcommand) from None
        except BaseException as stop:
            # Prefect's exception for SIGTERM, recognised by its name because not every command imports Prefect.
            if type(stop).__name__ != "TerminationSignal":
                raise
            error = _stopped("terminated by a signal", ctx.invoked_subcommand)
            error.exit_code = 143  # as in shells: 128 + SIGTERM
            raise error from None


def _named(ctx: Any) -> str:
    """The subcommand, before it is invoked."""
    arguments = [*getattr(ctx, "_protected_args", ()), *ctx.args]
    return str(arguments[0]) if arguments else ""


def _stopped(what: str, command: str | None) -> Stopped:
    again = "run the command again: it resumes from the last commit"
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
app.command()(run.plan)
app.command()(run.run)
app.command()(follow)
app.command()(run.transform)
app.command()(run.predict)
app.command()(run.reconcile)
app.command()(run.backfill)
app.command()(run.reload)
app.command()(recover)
app.add_typer(cursor.app, name="cursor")
app.add_typer(capture.app, name="capture")
app.add_typer(quarantine.app, name="quarantine")
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(freshness)
app.command()(receipt)
app.add_typer(alerts.app, name="alerts")
app.add_typer(decide.app, name="decide")
app.add_typer(runs.app, name="runs")
app.command()(volume)
app.add_typer(anomalies.app, name="anomalies")
app.command()(quality)
app.command()(cost)
app.add_typer(tune.app, name="tune")
app.command()(metrics)
app.command()(dashboard)
app.command()(watch)
app.command()(worker)
app.command()(gameday)
app.command()(env)
app.command()(sources.preview)
app.add_typer(sources.add, name="add")
app.add_typer(dev.app, name="dev")
app.add_typer(model.app, name="model")
app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(dbt)
app.command()(model.docs)
app.command()(diff)
# The command's name until 0.1, kept as a hidden alias for one more release.
app.command("review", hidden=True)(diff)
app.add_typer(backups.app, name="backup")
app.command()(restore.restore)
app.command()(restore.drill)
app.command()(migrate)
app.command()(deploy)
app.command()(promote)
app.add_typer(rollback.app, name="rollback")
app.command()(erase)
app.command()(purge)
# The command's name until 0.1, kept as a hidden alias for one more release.
app.command("retain", hidden=True)(purge)
app.command()(roles.url)
app.command()(roles.rotate)


@app.command()
def demo(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Also delete what was loaded of other sources")] = False,
) -> None:
    """Run the whole platform once on real data: stack, sources, day one, day two, and the results."""
    keep_private()
    from demo.walkthrough import tell

    tell(console, lambda what: yes or (sys.stdin.isatty() and typer.confirm(f"{what}. Go on?", default=False)))


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 2 when a file differs")] = False,
) -> None:
    """Render files from the code: dbt sources, contracts, deployments, docs/{shape,commands,metrics}.md."""
    from flows.cli import metrics_page, reference
    from flows.render import everything
    from flows.values.settings import PROJECT_ROOT

    changed = dict.fromkeys(everything.check(), "differs") if check else everything.write()
    pages = reference.write(typer.main.get_command(app), check=check) + metrics_page.write(check=check)
    changed |= dict.fromkeys(pages, "differs" if check else "written")
    for path, outcome in changed.items():
        console.print(f"  {outcome}: {path.relative_to(PROJECT_ROOT)}")
    if not changed:
        console.print("all rendered files are up to date")
    if check and changed:
        problems.print("run `medallion render` and commit the files it writes")
        raise typer.Exit(2)


@app.command()
def register() -> None:
    """Register blocks, work pools and limits with the configured Prefect API. Idempotent."""
    prepare()
    for line in registered():
        console.print(f"  {line}")


def main() -> None:
    """Run the command line; an error becomes a panel and an exit code."""
    try:
        app()
    except MedallionError as error:
        problems.print(look.error_panel(error))
        sys.exit(error.exit_code)
    except Exception as problem:
        explained = of_declaration(problem) or _of_prefect(problem) or diagnose(problem, "medallion").error
        if type(explained) is MedallionError:
            # Unforeseen: the traceback helps, but the exception's text might quote rows or connection URLs.
            problems.print("".join(traceback.format_tb(problem.__traceback__)), highlight=False, markup=False)
        problems.print(look.error_panel(explained))
        sys.exit(explained.exit_code)


def _of_prefect(problem: Exception) -> MedallionError | None:
    """The error as a problem of the Prefect server, if this process has called one."""
    if "prefect" not in sys.modules:
        return None
    from blocks.server import explain_server

    return explain_server(problem)


if __name__ == "__main__":
    main()
