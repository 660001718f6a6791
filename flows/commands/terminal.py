"""What the command line writes to, and what must be set before Prefect or dbt are imported."""

from __future__ import annotations

import os

from flows import screens
from flows.connections import embedded_stack

console = screens.open_console()
problems = screens.open_console(stderr=True)


def prepare() -> None:
    """Point Prefect at its server before it is imported, since it reads its settings once; and see that it answers.

    Raises:
        ConfigurationError: none is configured, or it does not serve us.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    stack = embedded_stack()
    if "PREFECT_API_URL" not in os.environ and stack is not None:
        os.environ["PREFECT_API_URL"] = stack["prefect"]["api_url"]
    from flows.prefect_server import require_server  # imports Prefect, which reads its settings now

    require_server()
