"""`medallion watch`: the watch from outside, docs/watch.md. (flows.cli.watch shows runs of this process.)"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from flows.cli.terminal import console, keep_private
from flows.values.errors import WarehouseError
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.operations.alerts import Condition
    from flows.operations.checks.check import Check, Round
    from flows.operations.watch_clock import Looked
    from flows.operations.watching import Watch


def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Look once and exit, for cron; exit 3 without a warehouse")
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve /metrics and /healthz; default: MEDALLION_WATCH_LISTEN"),
    ] = None,
) -> None:
    """Check the Prefect server, the warehouse, flow runs and backups, and send alerts, until stopped.

    Needs neither Prefect nor a run. Start it as a service; `medallion up` does so for the embedded stack.
    """
    keep_private()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    # It would log the addresses of channels and of the dead man's switch, which are secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    looked = asyncio.run(_watch(once=once, listen=settings().watch_listen if listen is None else listen))
    if not once or looked is None:
        return
    cannot = f"; not checked: {', '.join(looked.cannot)}" if looked.cannot else ""
    console.print(f"{looked.found} problems found{cannot}")
    if looked.away is not None:
        raise WarehouseError(
            looked.away,
            where="warehouse",
            fix="see that it is up and reachable; alerts wait until then, and this one is sent directly",
            retryable=True,
        )


async def _watch(*, once: bool, listen: str) -> Looked | None:
    from flows.operations.exporting import exporter
    from flows.operations.watch_clock import Clock

    made = build(Clock())
    try:
        made.exporter = exporter("" if once else listen)
        if once:
            made.once = True
            return await made.round()
        _keep_log_bounded()
        console.print(f"watching every {settings().watch_seconds:g} s")
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await made.run(stop, settings().watch_seconds, lives=_has_home)
        return None
    finally:
        await made.close()


def build(clock: Any) -> Watch:
    """The watch of this environment, with all checks.

    Raises:
        ConfigurationError: a setting, prefect.yaml or the embedded stack's file cannot be read.
    """
    from flows.operations.address_book import AddressBook
    from flows.operations.checks.registry import checks
    from flows.operations.direct import Direct
    from flows.operations.outbox import Outbox
    from flows.operations.prefect_api import find_api
    from flows.operations.prefect_facts import PrefectReader, deployment_names
    from flows.operations.watching import Watch
    from flows.sources.alerting import ROUTES

    api = find_api(_prove)
    names = dict.fromkeys(name for route in ROUTES for name in (*route.channels, *route.escalate_to))
    book, settle = AddressBook([*names], api), timedelta(seconds=settings().alert_settle_seconds)
    return Watch(
        checks(_of_backups()),
        Outbox(ROUTES, book.channel, settle),
        Direct(ROUTES, book.channel, settings().home / "watch.json", settle),
        book,
        None if api is None else PrefectReader(api, deployment_names()),
        clock,
        alive=settings().home / "watch.alive",
    )


def _of_backups() -> list[Check]:
    """The check of backups, where they are configured. It reads a store, which may hang: in a thread."""
    if not settings().has_backup_key:
        return []
    from flows.operations.checks.blocking import Blocking
    from flows.operations.checks.check import Check

    limits, store = settings(), Blocking[list["Condition"]]()

    async def look(at: Round) -> list[Condition]:
        from infra.backup.overdue import overdue

        within = timedelta(hours=limits.watch_backup_hours), timedelta(days=limits.watch_drill_days)
        return await store.ask(lambda: overdue(at.now, *within))

    return [Check("backups", look, every=timedelta(minutes=5), patience=60)]


def _prove(prefect: Mapping[str, Any]) -> None:
    """See that the embedded server is this stack's before credentials are sent to it.

    Raises NotUp, NotOurs.
    """
    from infra.local.errors import NotUp
    from infra.local.home import Home
    from infra.local.prefect_server import PrefectServer
    from infra.local.process import Running

    server = PrefectServer.of(Home(settings().home), prefect.get("auth_string", ""))
    port = urlsplit(prefect["api_url"]).port or 0
    answer = server.asked(Running(0, port))
    if answer == "silent":
        raise NotUp("does not respond", where=server.name, fix="run `medallion up`", retryable=True)
    if answer != "ours":
        raise server.not_ours(port)


def _keep_log_bounded() -> None:
    if "MEDALLION_LOG_FILE" in os.environ:  # a service of the embedded stack
        from infra.local import logs

        logs.keep_bounded()


def _has_home() -> bool:
    """Whether the embedded stack's folder, if this is its service, is still there: else there is nothing to watch."""
    log = os.environ.get("MEDALLION_LOG_FILE")
    return log is None or Path(log).parent.is_dir()
