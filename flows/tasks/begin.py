"""The start of a flow."""

from __future__ import annotations

import asyncio

from prefect.context import FlowRunContext

from flows.access import addresses
from flows.observe import logs, sentry, tracing
from flows.state import ledger
from flows.tasks import tls
from flows.values.settings import settings


def begin() -> None:
    """The first step of every flow: from here on no secret reaches a log or Sentry, wherever the flow runs."""
    tls.share()
    dsn = settings().sentry_dsn
    sentry.init(dsn.get_secret_value() if dsn else None, environment=settings().environment)
    logs.write_as(settings().log_format)
    logs.guard()
    tracing.start(settings().environment)


def ensure_operations() -> None:
    """Upgrade schema `ops` if needed, before a lock is taken that an upgrade would wait for.

    Raises:
        LoadLocked: it needs an upgrade, and runs were active during the full wait.
    """

    async def ensured() -> None:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await ledger.ensure_schema(warehouse)

    asyncio.run(ensured())


def current_flow_run_id() -> str | None:
    """The id of the current Prefect flow run."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None
