"""`medallion migrate`: upgrade schema `ops` to the version of this code, explicitly and after a plan."""

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
    """The difference between the warehouse and this code. `version` is None if there is no schema yet."""

    version: int | None
    changes: tuple[str, ...]
    active: tuple[ActiveRun, ...]

    @property
    def pending(self) -> bool:
        """Whether an upgrade is pending."""
        return self.version != ledger.SCHEMA_VERSION


def migrate(
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the pending changes and the active runs; change nothing")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements; change nothing")] = False,
    wait: Annotated[
        float | None,
        typer.Option("--wait", min=0, help="Seconds to wait for active runs; default: MEDALLION_LOCK_WAIT_SECONDS"),
    ] = None,
) -> None:
    """Upgrade schema ops to the version of this code when no run is active."""
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
        console.print("up to date")
        return
    with console.status("upgrading"):
        done = asyncio.run(_migrate(settings().lock_wait_seconds if wait is None else wait))
    console.print(
        f"schema ops is now at version {ledger.SCHEMA_VERSION}" if done else "another process has upgraded it meanwhile"
    )


async def look() -> Migration:
    """The warehouse's version, what an upgrade would change, and the active runs. Changes nothing.

    Raises:
        LoadLocked: the upgrade could not be rehearsed. WarehouseError: the schema is newer than this code.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        version = await ledger.known_version(warehouse)
        active = await active_runs(warehouse)
        pending = version not in (None, ledger.SCHEMA_VERSION)
        # Active runs lock the tables that a rehearsal needs.
        changes = await upgrading.rehearse(warehouse) if pending and not active else []
    return Migration(version, tuple(changes), tuple(active))


async def _migrate(wait_seconds: float) -> bool:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        return await ledger.migrate(warehouse, wait_seconds=wait_seconds)


def _table(found: Migration) -> Table:
    table = screens.grid("Schema ops", ["what", "value"])
    table.add_row("current version", "none yet" if found.version is None else str(found.version))
    table.add_row("required version", str(ledger.SCHEMA_VERSION))
    table.add_row("upgrade", "pending" if found.pending else "up to date")
    for line in found.changes:
        kind, _, what = line.partition("  ")
        table.add_row(kind, what.strip())
    return table
