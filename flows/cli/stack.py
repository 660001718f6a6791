"""`medallion up`, `medallion down` and `medallion status`: the embedded stack and the state of operations."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from flows.access import addresses
from flows.cli import stack_tables
from flows.cli.registration import registered
from flows.cli.terminal import console, prepare
from flows.state import ledger
from flows.state.blockers import naming_blockers
from flows.state.overview import Overview, read_overview
from flows.values.connection import DatabaseConnection
from flows.values.settings import PROJECT_ROOT, settings
from infra.local import where

if TYPE_CHECKING:
    from infra.local.stack import ServiceStatus

_STATUS_LOCK_MS = 2_000


def up(
    commerce: Annotated[bool, typer.Option(help="Also start the demo's commerce API")] = False,
    watch: Annotated[bool, typer.Option(help="Also start `medallion watch`, which sends alerts")] = True,
) -> None:
    """Start the embedded stack: PostgreSQL, a Prefect server and the watch. Does nothing if it is running."""
    from infra.local import stack

    with console.status("starting"):
        running = stack.up(on_step=lambda step: console.print(f"  {step}"), with_commerce=commerce)
        # This configures the embedded stack, whatever other servers the environment variables name.
        os.environ["PREFECT_API_URL"] = running.prefect.api_url
        prepare()
        asyncio.run(_ensure_operations(DatabaseConnection("warehouse", running.urls["warehouse_loader"])))
        for line in registered():
            console.print(f"  {line}")
        if _archiver_starts():
            console.print("  The write-ahead log is archived")
        if watch:
            _watch_starts()
            console.print("  The watch runs")
    console.print(where.addresses(running))


def down() -> None:
    """Stop what `up` started. Data is kept in .medallion/ for the next `up`."""
    from infra.local import stack

    # The watch stops first: it would report what is meant to stop. The archiver stops last: PostgreSQL sends its WAL to
    # the end before it stops.
    stopped = [*_watch_stops(), *stack.down(), *_archiver_stops()]
    console.print(f"stopped {', '.join(stopped)}" if stopped else "the stack was not running")


def status() -> None:
    """Show services, last runs, cursors, freshness, quarantine, and each deployment's next run."""
    if addresses.embedded_stack() is not None:
        from infra.local.stack import status as services

        console.print(stack_tables.service_table([*services(), *_archiver_status(), *_watch_status()]))
    overview = asyncio.run(_overview())
    for table in stack_tables.status_tables(overview):
        console.print(table)
    console.print(stack_tables.watch_words(overview), highlight=False)
    _show_schedules()


def _show_schedules() -> None:
    """Show the next runs of the configured Prefect server; nothing if there is no server or no active schedule."""
    if addresses.embedded_stack() is None:
        from prefect.settings import get_current_settings

        if not get_current_settings().api.url:
            return
    prepare()
    from deployments.next_runs import next_runs, refuse_unplanned
    from deployments.prefect_yaml import deployment_names
    from deployments.server import connected
    from deployments.stuck_runs import pending_limit, stuck_runs
    from flows.cli.deploy_screens import next_runs_table, stuck_runs_table

    with connected({}) as server:
        names = deployment_names(PROJECT_ROOT)
        runs = next_runs(server, names)
        if runs:
            console.print(next_runs_table(runs))
        if stuck := stuck_runs(server, names, pending_limit()):
            console.print(stuck_runs_table(stuck))
        refuse_unplanned(server, runs)


def _archiver_starts() -> bool:
    """Archive the embedded cluster's WAL, if a key to encrypt it is configured."""
    if settings().backup_key is None and settings().backup_key_file is None:
        return False  # without importing packages that are an extra
    from infra.backup import service
    from infra.local.home import Home

    return service.start(Home.find()) is not None


def _archiver_stops() -> list[str]:
    from infra.backup.service import ARCHIVER
    from infra.local.home import Home

    return [ARCHIVER.name] if ARCHIVER.stop(Home.find()) else []


def _archiver_status() -> list[ServiceStatus]:
    from infra.backup.service import ARCHIVER
    from infra.local.home import Home

    return [ARCHIVER.status(Home.find())]


def _watch_starts() -> None:
    from infra.local import watch_service
    from infra.local.home import Home

    watch_service.start(Home.find())


def _watch_stops() -> list[str]:
    from infra.local.home import Home
    from infra.local.watch_service import WATCH

    return [WATCH.name] if WATCH.stop(Home.find()) else []


def _watch_status() -> list[ServiceStatus]:
    from infra.local.home import Home
    from infra.local.watch_service import WATCH

    return [WATCH.status(Home.find())]


async def _ensure_operations(address: DatabaseConnection) -> None:
    async with addresses.connect(address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)


async def _overview() -> Overview:
    # A status screen must not hang: if a transaction locks a table of ops, show that transaction.
    async with (
        addresses.connect(addresses.warehouse(), side="warehouse") as warehouse,
        naming_blockers(warehouse, "ops", patience_ms=_STATUS_LOCK_MS),
    ):
        await ledger.ensure_schema(warehouse)
        return await read_overview(warehouse)
