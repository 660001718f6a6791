"""What the command line writes to, and what must be set before Prefect or dbt are imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flows.access.addresses import embedded_stack
from flows.observe import look
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

console = look.open_console()
problems = look.open_console(stderr=True)


def prepare(*, asks_server: bool = True) -> None:
    """Point Prefect at its server before it is imported, since it reads its settings once; and see that it answers.

    The embedded stack's server has to prove that it is ours first, and its auth string goes to no other server. What is
    written from now on is its owner's alone. A command that works without the server does not ask it: people are erased
    while it is down, too.

    Raises:
        MedallionError: none is configured, it does not serve us, or another one answers in its place.
    """
    keep_private()
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # A folder of ours: `medallion purge` deletes old results there, and in Prefect's own are those of other projects.
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(settings().home / "results"))
    if not asks_server:
        return
    stack = embedded_stack()
    if stack is not None:
        _point_at_ours(stack["prefect"])
    from flows.tasks.server import require_server  # imports Prefect, which reads its settings now

    try:
        require_server()
    except ConfigurationError:
        if stack is None:
            _explain_another_stack()
        raise


def _explain_another_stack() -> None:
    """Raise NotOurs if the server that does not serve us is the embedded one of another project."""
    try:
        from infra.local.home import Home
        from infra.local.prefect_server import PrefectServer
    except ImportError:  # a deployed worker has no embedded stack
        return
    PrefectServer.of(Home(settings().home)).refuse_another_stack(os.environ.get("PREFECT_API_URL"))


def _point_at_ours(prefect: Mapping[str, Any]) -> None:
    from infra.local.home import Home
    from infra.local.prefect_server import PrefectServer

    auth_string = prefect.get("auth_string", "")
    server = PrefectServer.of(Home(settings().home), auth_string)
    if server.is_meant(os.environ.get("PREFECT_API_URL"), prefect["api_url"]):
        server.prove(prefect["api_url"])
        os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = prefect["api_url"], auth_string
    elif os.environ.get("PREFECT_API_AUTH_STRING") == auth_string:
        del os.environ["PREFECT_API_AUTH_STRING"]


def keep_private() -> None:
    """Let what this process and its children create from now on be readable by its owner only."""
    os.umask(0o077)
