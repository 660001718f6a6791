"""The command line's consoles, and the settings that must precede the import of Prefect and dbt."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flows.access.addresses import embedded_stack
from flows.observe import look
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

console = look.open_console()
problems = look.open_console(stderr=True)


def prepare(*, asks_server: bool = True) -> None:
    """Set Prefect's server before Prefect is imported, since it reads its settings once; check that it answers.

    The embedded server must first prove that it is this stack's, and its auth string is sent to no other server. Files
    written from now on is its owner's alone. A command that works without the server does not ask it: people are erased
    while it is down, too.

    Raises:
        MedallionError: no server is configured, it refuses this client, or another server answers in its place.
    """
    keep_private()
    # A screen shows the steps; log lines come beside it only if a form was asked for.
    level = "CRITICAL" if settings().log_format is None else "INFO"
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Our own folder: `medallion purge` deletes old results there; Prefect's default folder has those of other projects.
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(settings().home / "results"))
    if not asks_server:
        return
    stack = embedded_stack()
    if stack is not None:
        _point_at_ours(stack["prefect"])
    with importing():
        from blocks.server import require_server  # imports Prefect, which reads its settings now

    try:
        require_server()
    except ConfigurationError:
        if stack is None:
            _explain_another_stack()
        raise


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while modules are imported, nor among what they leave, afterwards.

    Prefect's and ours take 2.3 s of a core, of which 0.3 s went into looking.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    before = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def _explain_another_stack() -> None:
    """Raise NotOurs if the server that refuses this client is the embedded one of another project."""
    try:
        from infra.local.home import Home
        from infra.local.prefect_server import PrefectServer
    except ImportError:  # not installed on a deployed worker
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
    """Make files that this process and its children create readable by their owner only."""
    os.umask(0o077)
