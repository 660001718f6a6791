"""`medallion migrate`: schema `ops` brought to the version of this code, on purpose and with a look before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.table import Table

from flows.access import addresses
from flows.cli.terminal import console
from flows.observe import look as screens
from flows.state import ledger, upgrading
from flows.state.active_runs import ActiveRun, active_runs
from flows.values.settings import settings


@dataclass(frozen=True)
class Migration:
    """What stands between the warehouse and this code. `version` is None where there is no schema yet."""

    version: int | None
    changes: tuple[str, ...]
    active: tuple[ActiveRun, ...]

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return self.version != ledger.SCHEMA_VERSION


def migrate(
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would come and who is at work; change nothing")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements, and change nothing")] = False,
    wait: Annotated[
        float | None, typer.Option("--wait", min=0, help="Seconds to wait for active runs; MEDALLION_LOCK_WAIT_SECONDS")
    ] = None,
) -> None:
    """Bring schema ops to the version of this code, when no run is under way."""
    if sql:
        typer.echo(upgrading.statements())
        return
    found = asyncio.run(look())
    console.print(_table(found))
    for run in found.active:
        console.print(f"  [yellow]active[/]  {run}, session {run.session}", highlight=False)
    if plan:
        return
    if not found.pending:
        console.print("nothing to do")
        return
    with console.status("upgrading"):
        done = asyncio.run(_migrate(settings().lock_wait_seconds if wait is None else wait))
    console.print(
        f"schema ops is of version {ledger.SCHEMA_VERSION} now" if done else "another process did it meanwhile"
    )


async def look() -> Migration:
    """The warehouse's version, what an upgrade would change, and who is at work. Changes nothing.

    Raises:
        LoadLocked: the upgrade could not be rehearsed. WarehouseError: the schema is newer than this code.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        version = await ledger.known_version(warehouse)
        active = await active_runs(warehouse)
        pending = version not in (None, ledger.SCHEMA_VERSION)
        # Runs hold the tables that a rehearsal would want.
        changes = await upgrading.rehearse(warehouse) if pending and not active else []
    return Migration(version, tuple(changes), tuple(active))


async def _migrate(wait_seconds: float) -> bool:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        return await ledger.migrate(warehouse, wait_seconds=wait_seconds)


def _table(found: Migration) -> Table:
    table = screens.grid("Schema ops", ["what", "is"])
    table.add_row("version now", "none yet" if found.version is None else str(found.version))
    table.add_row("this code wants", str(ledger.SCHEMA_VERSION))
    table.add_row("upgrade", "pending" if found.pending else "nothing to do")
    for line in found.changes:
        kind, _, what = line.partition("  ")
        table.add_row(kind, what.strip())
    return table
