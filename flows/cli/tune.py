"""`medallion tune`: what is slow, what would help, and whether it did."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from flows.cli.terminal import console, prepare, problems

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.operations.tuning.advise import Advice, Scope
    from flows.operations.tuning.recommendation import Recommendation
    from flows.state.tunings import Tuning
    from flows.values.connection import DatabaseConnection

Result = TypeVar("Result")


class _ShowsByDefault(TyperGroup):
    """`medallion tune shop` is `medallion tune show shop`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowsByDefault,
    help="What is slow, what would help, and whether it did: show (the default), apply, report, revert.",
)
Days = Annotated[int, typer.Option("--days", min=1, max=400, help="How many days of history, up to now")]
Least = Annotated[
    float, typer.Option("--least", min=0, help="Recommendations that gain fewer seconds a day are left out")
]
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner-url-in",
        metavar="VARIABLE",
        help="The environment variable with a connection URL of the source's owner, for an index there",
    ),
]


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[SOURCE[.TABLE]]", help="Default: all")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model")] = None,
    days: Days = 30,
    least: Least = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show bottlenecks of tables and models, and recommendations with gain, effort, risk and what they rest on.

    Reads the ledger, raw, and of the sources only catalogue and planner. Changes nothing.
    """
    from flows.cli.tune_tables import advice_values, print_advice

    found = _with_warehouse(lambda connection: _advise(connection, _scope(name, model), days, least))
    if as_json:
        typer.echo(json.dumps(advice_values(found), indent=2))
    else:
        print_advice(found)


@app.command()
def apply(
    recommendation: Annotated[str, typer.Argument(metavar="ID", help="For example shop.products/cursor")],
    days: Days = 30,
    only_plan: Annotated[bool, typer.Option("--dry-run", help="Show what it would do; change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Do not take it back automatically if it does not help")] = False,
    owner_url_in: Owner = None,
) -> None:
    """Apply a recommendation, and note the figures before, so that `medallion tune report` can compare.

    Settings of a table's loads and indexes in raw are applied; an index at a source with the owner's connection; an
    edit of a declaration is shown and noted as accepted. Exit 2 if it may not ask.
    """
    from flows.cli.tune_tables import print_recommendation
    from flows.operations.tuning.applying import apply as carry_out

    subject = recommendation.rpartition("/")[0]
    scope = _scope_of(subject)
    found = _with_warehouse(lambda connection: _advise(connection, scope, days, 0.0))
    chosen = _chosen(recommendation, found)
    print_recommendation(chosen)
    if only_plan:
        console.print("[dim]nothing was changed[/]")
        return
    owner = _owner(owner_url_in, subject)
    _agree("Apply it?" if chosen.by in ("setting", "warehouse") or owner else "Accept it?", yes=yes)
    applied = _with_warehouse(
        lambda connection: carry_out(connection, chosen, getpass.getuser(), datetime.now(UTC), keep=keep, owner=owner)
    )
    word = "applied" if applied.applied else "not applied"
    console.print(f"{word} as change {applied.tuning_id}: {applied.note}", markup=False, highlight=False)


@app.command()
def report(
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show what came of changes: figures before and after, by how many loads, and whether they helped.

    Brings the verdicts up to date, as the watch does every hour, and takes back settings and indexes in raw that made
    no difference, unless they were applied with --keep.
    """
    from flows.cli.tune_tables import report_table, report_values
    from flows.operations.tuning.evaluating import evaluate, notice_source_indexes
    from flows.sources import SOURCES
    from flows.state.tunings import tunings

    async def read(connection: Connection[Record]) -> list[Tuning]:
        await notice_source_indexes(connection, SOURCES)
        await evaluate(connection, SOURCES, datetime.now(UTC))
        return await tunings(connection)

    found = _with_warehouse(read)
    if as_json:
        typer.echo(json.dumps([report_values(each) for each in found], indent=2))
    else:
        console.print(report_table(found))


@app.command()
def revert(
    number: Annotated[int, typer.Argument(metavar="CHANGE", help="The number in `medallion tune report`")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded with your name")] = "by hand",
    owner_url_in: Owner = None,
) -> None:
    """Take a change back: a setting, or an index. Of an edited declaration it shows what to edit."""
    from flows.operations.tuning.applying import revert as take_back
    from flows.state.tunings import find_tuning
    from flows.values.errors import DeclarationError

    async def work(connection: Connection[Record]) -> tuple[Tuning, str]:
        tuning = await find_tuning(connection, number)
        if tuning is None or tuning.reverted_at is not None:
            word = "does not exist" if tuning is None else "was taken back before"
            raise DeclarationError(f"change {number} {word}", where="tune", fix="`medallion tune report` lists changes")
        owner = _owner(owner_url_in, tuning.source_system or "")
        return tuning, await take_back(connection, tuning, getpass.getuser(), reason, owner)

    tuning, left = _with_warehouse(work)
    console.print(f"change {number} ({tuning.recommendation}) is taken back", markup=False, highlight=False)
    if left:
        console.print(f"left to do: {left}", markup=False, highlight=False)


def _scope(name: str | None, model: str | None) -> Scope:
    from flows.operations.tuning.advise import Scope
    from flows.values.errors import DeclarationError
    from flows.verbs.find import find_source, find_table

    if name is not None and model is not None:
        raise DeclarationError("a table and a model were named", where="tune", fix="name one of them")
    if name is None:
        return Scope(model=model)
    if "." in name:
        source, table = find_table(name)
        return Scope(source.name, table.name)
    return Scope(find_source(name).name)


def _scope_of(subject: str) -> Scope:
    """Of a recommendation's subject: a table or source if one is declared so, else a model."""
    from flows.operations.tuning.advise import Scope
    from flows.sources import SOURCES

    source = subject.partition(".")[0]
    if any(each.name == source for each in SOURCES):
        return _scope(subject, None)
    return Scope(model=subject)


async def _advise(connection: Connection[Record], scope: Scope, days: int, least: float) -> Advice:
    from flows.operations.tuning.advise import advise
    from flows.sources import SOURCES

    return await advise(connection, SOURCES, datetime.now(UTC), days, scope, least)


def _chosen(recommendation: str, found: Advice) -> Recommendation:
    from flows.values.errors import DeclarationError

    for each in found.recommendations:
        if each.id == recommendation:
            return each
    known = ", ".join(each.id for each in found.recommendations) or "none"
    raise DeclarationError(
        f"{recommendation!r} is not recommended now",
        where="tune",
        fix=f"for this subject are: {known}; `medallion tune` shows all, `medallion tune report` what was accepted",
    )


def _owner(variable: str | None, source: str) -> DatabaseConnection | None:
    from flows.values.connection import DatabaseConnection
    from flows.values.errors import ConfigurationError

    if variable is None:
        return None
    url = os.environ.get(variable)
    if not url:
        raise ConfigurationError(
            f"the environment variable {variable} is not set",
            where="tune",
            fix="set it to a connection URL of the source's owner, for this command only",
        )
    return DatabaseConnection(source.partition(".")[0], url)


def _agree(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin.isatty() and console.is_terminal):
        problems.print("nothing was changed: there is nobody to ask; add --yes")
        raise typer.Exit(2)
    if not typer.confirm(question, default=False):
        console.print("nothing was changed")
        raise typer.Exit(2)


def _with_warehouse(do: Callable[[Connection[Record]], Awaitable[Result]]) -> Result:
    from flows.access import addresses
    from flows.state import ledger

    async def work() -> Result:
        warehouse = addresses.connect(addresses.warehouse(), side="warehouse", application="medallion tune")
        async with warehouse as connection:
            await ledger.ensure_schema(connection)
            return await do(connection)

    prepare(asks_server=False)
    return asyncio.run(work())
