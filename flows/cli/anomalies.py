"""`medallion anomalies`: days on which a table or a column was unusual, and changes that are right."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe import look

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.operations.anomalies import Acceptance, Anomaly

app = typer.Typer(no_args_is_help=True, help="Unusual days of tables and columns: list, show, accept.")

Result = TypeVar("Result")


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[SOURCE[.TABLE]]", help="Default: all")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=400, help="How many days, up to today")] = 7,
    all_: Annotated[bool, typer.Option("--all", help="Also those that were accepted")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show unusual days of tables (rows, arrival) and columns, the newest first."""
    from flows.operations.anomalies import anomalies

    since = datetime.now(UTC).date() - timedelta(days=days)
    found = _with_warehouse(lambda connection: anomalies(connection, since, table=name, accepted=all_))
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"day": f"{each.day}"} for each in found], indent=2))
    else:
        console.print(_table("unusual days", found))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="SOURCE.TABLE", help="For example shop.baskets")],
    days: Annotated[int, typer.Option("--days", min=1, max=400, help="How many days, up to today")] = 70,
) -> None:
    """Show a table's unusual days with what was usual, and the changes that were accepted."""
    from flows.operations.anomalies import acceptances, anomalies
    from flows.verbs.find import find_table

    source, table = find_table(name)
    since = datetime.now(UTC).date() - timedelta(days=days)

    async def read(connection: Connection[Record]) -> tuple[list[Anomaly], list[Acceptance]]:
        return (
            await anomalies(connection, since, table=name),
            await acceptances(connection, source.name, table.name),
        )

    found, accepted = _with_warehouse(read)
    console.print(_table(f"unusual days of {name}", found))
    if accepted:
        grid = look.grid("accepted changes", ("of", "usual since", "by", "reason"))
        for each in accepted:
            grid.add_row(each.column_name or "all", f"{each.since}", each.accepted_by, each.reason)
        console.print(grid)


@app.command()
def accept(
    name: Annotated[str, typer.Argument(metavar="SOURCE.TABLE[.COLUMN]", help="A table, or one of its columns")],
    reason: Annotated[str, typer.Option("--reason", help="Why it is right; it is recorded with your name")],
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], help="First day of the change; default: the first unusual one"),
    ] = None,
) -> None:
    """Accept a change: its alert ends, and only days since the change are what is usual from now on."""
    from flows.operations.accepting import accept_change
    from flows.verbs.find import find_table

    source, _, rest = name.partition(".")
    table, _, column = rest.partition(".")
    find_table(f"{source}.{table}")
    accepted = _with_warehouse(
        lambda connection: accept_change(
            connection,
            f"{source}.{table}",
            column or None,
            reason,
            getpass.getuser(),
            since=None if since is None else since.date(),
        )
    )
    console.print(
        f"accepted: {name} since {accepted.since}, {accepted.days} unusual days; "
        "until eight equal weekdays are known again, it is learning"
    )


def _table(title: str, found: Sequence[Anomaly]) -> Table | Text:
    if not found:
        return Text("no unusual days", style="green")
    grid = look.grid(title, ("day", "of", "what"))
    for each in found:
        note = " (accepted)" if each.acceptance_id is not None else ", again" if each.again else ""
        style = "dim" if each.acceptance_id is not None else "yellow" if each.again else ""
        grid.add_row(f"{each.day:%a %Y-%m-%d}", each.subject, Text(each.what + note, style=style))
    return grid


def _with_warehouse(do: Callable[[Connection[Record]], Awaitable[Result]]) -> Result:
    from flows.access import addresses
    from flows.state import ledger

    async def work() -> Result:
        warehouse = addresses.connect(addresses.warehouse(), side="warehouse", application="medallion anomalies")
        async with warehouse as connection:
            await ledger.ensure_schema(connection)
            return await do(connection)

    prepare(asks_server=False)
    return asyncio.run(work())
