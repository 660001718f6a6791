"""`medallion freshness`: how fresh tables and models are, by each clock, and how often promises were kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe.look import ago, grid

if TYPE_CHECKING:
    from flows.operations.attainment import Attainment
    from flows.operations.freshness import Reading

    Shown = tuple[Reading, Attainment | None]


def freshness(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE[.TABLE]]...", help="For example shop, shop.baskets or gold; default: all"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show how fresh tables and models are, what is promised, and how often that was kept in 30 days.

    Exit code 1 if a promise is broken now. Changes nothing.
    """
    prepare(asks_server=False)
    now, shown = asyncio.run(_read(names or []))
    if as_json:
        typer.echo(json.dumps([as_values(*each, now) for each in shown], indent=2))
    else:
        console.print(freshness_table(shown, now))
        for reading, _ in shown:
            if reading.problem is not None:
                console.print(f"  {reading.subject}: {reading.problem}; {reading.fix}", markup=False, highlight=False)
    if any(reading.is_broken for reading, _ in shown):
        raise typer.Exit(1)


async def _read(names: Sequence[str]) -> tuple[datetime, list[Shown]]:
    from flows.access import addresses
    from flows.operations.attainment import attainments
    from flows.operations.freshness import Clocks
    from flows.state import ledger

    async with addresses.connect(
        addresses.warehouse(), side="warehouse", application="medallion freshness"
    ) as connection:
        await ledger.ensure_schema(connection)
        now: datetime = await connection.fetchval("select clock_timestamp()")
        readings = chosen(await Clocks().read(connection, now), names)
        return now, [*zip(readings, await attainments(connection, readings, now), strict=True)]


def chosen(readings: Sequence[Reading], names: Sequence[str]) -> list[Reading]:
    """The readings of these tables, models, sources or schemas of models.

    Raises:
        DeclarationError: a name is of none of them.
    """
    from flows.values.errors import DeclarationError

    for name in names:
        if not any(_is_of(reading, name) for reading in readings):
            raise DeclarationError(
                f"{name!r} is no declared source or table, and no model that promises something",
                where="freshness",
                fix="`medallion freshness` shows all of them; models are known once they were built",
            )
    return [reading for reading in readings if not names or any(_is_of(reading, name) for name in names)]


def _is_of(reading: Reading, name: str) -> bool:
    return reading.subject == name or reading.subject.partition(".")[0] == name


def freshness_table(shown: Sequence[Shown], now: datetime) -> Table:
    """One line per clock of a table or model."""
    columns = ["table or model", "clock", "age", "promised", "state", "next deadline (UTC)", "kept in 30 days"]
    table = grid("Freshness", columns, ["age", "kept in 30 days"])
    for reading, attainment in shown:
        table.add_row(
            reading.subject,
            reading.clock,
            _age(reading, now),
            reading.promised,
            _state(reading.state),
            f"{reading.next_deadline:%Y-%m-%d %H:%M}" if reading.next_deadline else "",
            _kept(attainment),
        )
    return table


_STYLE = {"fresh": "green", "late": "bold red", "missed": "bold red", "unknown": "yellow"}


def _state(state: str) -> Text:
    return Text(state, style=_STYLE.get(state, ""))


def _age(reading: Reading, now: datetime) -> str:
    if reading.at is None:
        never = reading.clock in ("load", "deadline") or reading.source is None
        return "never" if never and reading.state != "fresh" else ""
    return ago(max(0.0, (now - reading.at).total_seconds()))


def _kept(attainment: Attainment | None) -> str:
    if attainment is None:
        return ""
    share = f"{attainment.share:.1%}"
    return share if attainment.deadlines is None else f"{share} ({attainment.met} of {attainment.deadlines})"


def as_values(reading: Reading, attainment: Attainment | None, now: datetime) -> dict[str, Any]:
    """A clock for programs. Times in ISO 8601, ages in seconds, attainment from 0 to 1."""

    def told(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat()

    return {
        "subject": reading.subject,
        "clock": reading.clock,
        "state": reading.state or None,
        "at": told(reading.at),
        "age_seconds": None if reading.at is None else (now - reading.at).total_seconds(),
        "promised": reading.promised or None,
        "late_since": told(reading.late_since),
        "next_deadline": told(reading.next_deadline),
        "attainment_30_days": None if attainment is None else attainment.share,
        "deadlines_met": None if attainment is None else attainment.met,
        "deadlines": None if attainment is None else attainment.deadlines,
        "owner": reading.owner,
        "problem": reading.problem,
    }
