"""`medallion cursor`: where the next load of a table begins."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.run import SourceNames
from flows.cli.source_tables import cursors_table, moves_table
from flows.cli.terminal import console, prepare

if TYPE_CHECKING:
    from flows.verbs.cursor import Move

app = typer.Typer(no_args_is_help=True, help="Stored cursors: where the next load of a table begins.")

_Table = Annotated[str, typer.Argument(metavar="SOURCE.TABLE", help="For example shop.baskets")]
_OnlyPlan = Annotated[bool, typer.Option("--plan", help="Show what the next load would read; change nothing")]


@app.command()
def show(sources: SourceNames = None) -> None:
    """Show stored cursors, and the declared cursor, server and database they belong to. Changes nothing."""
    from flows.verbs.cursor import stored_cursors

    console.print(cursors_table(asyncio.run(stored_cursors(sources))))


@app.command("set")
def set_(
    table: _Table,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As `medallion cursor show` writes it")],
    only_plan: _OnlyPlan = False,
) -> None:
    """Have the next load of a table begin at a value.

    Rows below it are not read, unless a load finds them missing. A table without a key cannot go back, because rows
    would be in raw twice. While a load of the table is running, this is refused.
    """
    _move(table, value, only_plan=only_plan)


@app.command()
def reset(table: _Table, only_plan: _OnlyPlan = False) -> None:
    """Have the next load of a table begin from the beginning. While a load of the table is running, this is refused."""
    _move(table, None, only_plan=only_plan)


def _move(table: str, value: str | None, *, only_plan: bool) -> None:
    from flows.verbs.cursor import move_cursor

    prepare(asks_server=False)
    move: Move = asyncio.run(move_cursor(table, value, getpass.getuser(), only_plan=only_plan))
    console.print(moves_table([move]))
    console.print("[dim]nothing was changed[/]" if only_plan else f"[dim]medallion run {table} loads it now[/]")
