"""`medallion decide`: questions that runs ask people, and their answers."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from flows.cli import decide_tables as screens
from flows.cli.terminal import console, prepare, problems

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.state.decisions import Decision

app = typer.Typer(no_args_is_help=True, help="Decisions: what runs ask people, and who decided what, when and why.")

Result = TypeVar("Result")
_Id = Annotated[int, typer.Argument(metavar="ID", help="As `medallion decide list` shows it")]


class Given(StrEnum):
    """An answer."""

    accept = "accept"
    refuse = "refuse"


@app.command("list")
def list_(
    closed: Annotated[
        str, typer.Option("--closed", help="Also those that were asked within this time, such as '30 days'")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show open questions, and answers that no run has used yet. Exit code 5 if a question is open."""
    from flows.declare.duration import parse_duration
    from flows.state import decisions

    async def read(connection: Connection[Record]) -> list[Decision]:
        since = parse_duration(closed, "--closed") if closed else timedelta()
        return await decisions.listed(connection, since)

    found = _with_warehouse(read)
    if as_json:
        typer.echo(json.dumps([screens.as_values(one) for one in found], indent=2))
    else:
        console.print(screens.list_table(found))
    if any(screens.is_open(one) for one in found):
        raise typer.Exit(5)


@app.command()
def show(number: _Id) -> None:
    """Show a question in full: the plan, who is affected, until when, and who answered."""
    from flows.access import addresses
    from flows.operations.affected import read_dependencies
    from flows.state import decisions

    async def read(connection: Connection[Record]) -> tuple[Decision, list[str]]:
        found = await decisions.need(connection, number)
        # An approver may read decisions, and nothing else of operations.
        if addresses.approver() is not None:
            return found, []
        return found, (await read_dependencies(connection)).readers([found.subject])

    console.print(screens.panel(*_with_warehouse(read)))


@app.command()
def answer(
    number: _Id,
    given: Annotated[Given, typer.Argument(metavar="accept|refuse", help="Accept what was shown, or refuse it")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded with your name")],
    by: Annotated[
        str, typer.Option("--by", help="Your name; default: your account. An approver's own role counts instead")
    ] = "",
    digest: Annotated[
        str, typer.Option("--plan", metavar="DIGEST", help="Answer only if this is the plan that was shown")
    ] = "",
) -> None:
    """Answer a question, once. Exit code 1 if it was closed before: the first answer counts."""
    from flows.state import decisions
    from flows.values.errors import DeclarationError

    async def do(connection: Connection[Record]) -> tuple[bool, Decision, list[Decision]]:
        found = await decisions.need(connection, number)
        if digest and digest != found.plan_digest:
            raise DeclarationError(
                f"the plan is {found.plan_digest}, not {digest}",
                where=f"decision {number}",
                fix=f"look at it again with `medallion decide show {number}`",
            )
        won = await decisions.answer(
            connection, number, accept=given is Given.accept, by=by or getpass.getuser(), reason=reason
        )
        after = await decisions.need(connection, number)
        of_run = await decisions.find(connection, "d.flow_run_id = $1 and d.used_at is null", after.flow_run_id)
        return won, after, of_run

    won, after, of_run = _with_warehouse(do)
    if not won:
        problems.print(screens.closed_text(after), markup=False, highlight=False)
        raise typer.Exit(1)
    console.print(screens.answered_text(after), markup=False, highlight=False)
    if of_run:
        from flows.cli.suspended import resume

        console.print(resume(of_run))


def _with_warehouse(do: Callable[[Connection[Record]], Awaitable[Result]]) -> Result:
    from flows.access import addresses
    from flows.state import ledger

    prepare(asks_server=False)

    async def run() -> Result:
        approver = addresses.approver()
        address = approver or addresses.warehouse()
        async with addresses.connect(address, side="warehouse", application="medallion decide") as connection:
            if approver is None:
                await ledger.ensure_schema(connection)
            return await do(connection)

    return asyncio.run(run())
