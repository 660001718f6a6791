"""`medallion quarantine`: rows that failed row checks, shown, fixed, loaded again or discarded."""

from __future__ import annotations

import asyncio
import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from flows.cli import quarantine_tables as screens
from flows.cli.terminal import console, prepare
from flows.values.errors import DeclarationError

app = typer.Typer(no_args_is_help=True, help="Quarantined rows: list, show, fix, load again, discard.")

_Rule = Annotated[str | None, typer.Option("--rule", help="Only rows that broke this rule")]
_Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded with your name")]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[SOURCE[.TABLE]]", help="For example shop.baskets")] = None,
    rule: _Rule = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Quarantined at this time (UTC) or later")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Quarantined before this time (UTC)")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Closed rows instead of open ones")] = False,
) -> None:
    """Count quarantined rows by table and rule, with the first and the last time."""
    from flows.verbs.quarantine import count_rows

    prepare(asks_server=False)
    counts = asyncio.run(count_rows(name, rule, _utc(since), _utc(until), resolved=resolved))
    console.print(screens.counts_table(counts, resolved=resolved))


@app.command()
def show(
    rows: Annotated[list[str], typer.Argument(metavar="ID…|SOURCE.TABLE", help="Ids of rows, or a table")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Show values; needs --reason")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why values are shown; it is recorded")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of a table to show at most")] = 10,
) -> None:
    """Show quarantined rows: rule, time, and columns with type and length. Values are masked without --reveal."""
    from flows.verbs.quarantine import Reveal, show_rows

    prepare(asks_server=False)
    asked = Reveal(getpass.getuser(), reason) if reveal else None
    looks = asyncio.run(show_rows(rows, limit, asked))
    for part in screens.look_parts(looks, revealed=reveal):
        console.print(part)


@app.command()
def fix(
    row: Annotated[int, typer.Argument(metavar="ID", help="As `medallion quarantine show` writes it")],
    reason: _Reason,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="A column's right value; repeatable")
    ] = None,
    nulls: Annotated[
        list[str] | None, typer.Option("--null", metavar="COLUMN", help="A column that is null; repeatable")
    ] = None,
) -> None:
    """Store a fixed version of a row beside the original; `medallion quarantine replay` loads it.

    Of a table of records, payload.status=paid sets a field of the record.
    """
    from flows.verbs.fix import fix as store

    prepare(asks_server=False)
    changed: dict[str, str | None] = dict(_pair(text) for text in values or [])
    changed |= dict.fromkeys(nulls or [])
    done = asyncio.run(store(row, changed, getpass.getuser(), reason))
    console.print(screens.fixed_text(done))


@app.command()
def replay(
    rows: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…|SOURCE.TABLE]", help="Default: every table with open rows")
    ] = None,
    rule: _Rule = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show what would be loaded; change nothing")] = False,
) -> None:
    """Load quarantined rows again, through the checks of a load. Exits with 1 if a row is refused again.

    While a load of the table is running, this waits for it.
    """
    from flows.privacy.replay import load_again
    from flows.verbs.quarantine import tables_with_open_rows
    from flows.verbs.replay import plan_replay

    prepare(asks_server=False)
    names = rows or asyncio.run(tables_with_open_rows())
    done = asyncio.run(plan_replay(names, rule) if only_plan else load_again(names, getpass.getuser(), rule))
    console.print(screens.replay_table(done, planned=only_plan))
    if only_plan:
        console.print("[dim]nothing was changed: without --plan, these rows are loaded[/]")
    elif any(one.verdict is not None for table in done for one in table.outcomes):
        raise typer.Exit(1)


@app.command()
def discard(
    rows: Annotated[list[int], typer.Argument(metavar="ID…", help="Ids of rows")],
    reason: _Reason,
) -> None:
    """Close rows that nobody wants in raw. They stay readable, and are not quarantined again unless they change."""
    from flows.verbs.quarantine import discard_rows

    prepare(asks_server=False)
    done = asyncio.run(discard_rows(rows, getpass.getuser(), reason))
    console.print(f"{len(done):,} {'row' if len(done) == 1 else 'rows'} discarded")


def _pair(text: str) -> tuple[str, str]:
    name, is_set, value = text.partition("=")
    if not is_set or not name:
        raise DeclarationError(
            "--set needs a column and its value", where="medallion quarantine fix", fix="write --set column=value"
        )
    return name, value


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
