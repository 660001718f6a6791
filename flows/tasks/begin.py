"""How a flow begins."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from prefect.context import FlowRunContext

from flows.access import addresses
from flows.observe import logs, sentry
from flows.state import ledger
from flows.tasks import tls
from flows.values.settings import settings


def begin() -> None:
    """What every flow does first: nothing secret reaches a log or Sentry from here on, wherever the flow runs."""
    _leave_packages_off_the_path()
    tls.share()
    dsn = settings().sentry_dsn
    sentry.init(dsn.get_secret_value() if dsn else None, environment=settings().environment)
    logs.guard()


def _leave_packages_off_the_path() -> None:
    """A worker's process has the folder of the flow's file first on the path: there `dbt` is our package, not dbt."""
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "__init__.py").is_file()]


def ensure_operations() -> None:
    """Bring schema `ops` up to date, before a lock is taken that an upgrade would wait for.

    Raises:
        LoadLocked: it wants an upgrade, and runs were under way all the while we waited.
    """

    async def ensured() -> None:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await ledger.ensure_schema(warehouse)

    asyncio.run(ensured())


def current_flow_run_id() -> str | None:
    """The id of the Prefect flow run we are in."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None
