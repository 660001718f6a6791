"""`medallion worker` and `medallion env`: run deployments, and give other tools access to the embedded server."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from flows.access import addresses
from flows.cli.terminal import console, prepare
from flows.observe.logs import environment_of_workers
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

_VARIABLES = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


def worker(
    pool: Annotated[str, typer.Option("--pool", help="The work pool to take runs from")] = "local",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Maximum number of concurrent runs")] = None,
) -> None:
    """Run a Prefect worker in the foreground until Ctrl-C. It runs scheduled deployments."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
    for variable, value in environment_of_workers(settings().log_format).items():
        os.environ.setdefault(variable, value)
    prepare()
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    api_url = get_current_settings().api.url
    if api_url is None:
        # Prefect would start a temporary server, in which nothing is ever scheduled.
        raise ConfigurationError(
            "no Prefect server is configured",
            where=f"work pool {pool}",
            fix="run `medallion up` for the embedded server, or set PREFECT_API_URL",
        )
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
    except ObjectNotFound as error:
        # Prefect's worker would wait for the pool forever.
        raise ConfigurationError(
            f"work pool {pool} does not exist",
            where=api_url,
            fix="name another pool with --pool; `medallion register` creates the pool `local`",
        ) from error
    _put_back_orphans(pool)
    console.print(f"Worker for work pool {pool} at {api_url}; Ctrl-C stops it.", highlight=False)
    console.print("The Prefect server keeps the logs of each run.")
    sys.stdout.flush()
    if (stack := addresses.embedded_stack()) is not None and stack["prefect"]["api_url"] == api_url:
        _reach_through_relay(stack["prefect"]["ui_url"])
    bound = [] if limit is None else ["--limit", str(limit)]
    from deployments.orphaned_runs import worker_name

    # exec keeps the number of this process, which is in the name: the next worker sees by it whether this one lives.
    named = ["--pool", pool, "--name", worker_name()]
    command = ["-m", "prefect", "worker", "start", *named, "--no-create-pool-if-not-found", *bound]
    # exec replaces this process, so that Ctrl-C and SIGTERM reach Prefect's own handlers directly.
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 # nosec B606 - our own interpreter, without a shell


def _put_back_orphans(pool: str) -> None:
    """Schedule runs again that a worker of this machine took and died with."""
    from deployments.orphaned_runs import put_back_orphans
    from deployments.server import connected

    with connected({}) as server:
        if runs := put_back_orphans(server, pool):
            console.print(f"{len(runs)} runs whose worker died before they began are scheduled again.")


def _reach_through_relay(ui_url: str) -> None:
    """Route the worker and its flow runs to the embedded server through a relay; only the relay has the auth string."""
    from infra.local import relay
    from infra.local.home import Home

    os.environ.update(relay.start(Home(settings().home)))
    os.environ.setdefault("PREFECT_UI_URL", ui_url)  # otherwise links to runs would point to the relay


def env(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print only this variable's value")] = None,
) -> None:
    """Print the environment variables of the embedded Prefect server: eval "$(medallion env)"."""
    if name not in (None, *_VARIABLES):
        raise typer.BadParameter(f"must be one of {', '.join(_VARIABLES)}", param_hint="NAME")
    if addresses.embedded_stack() is None:
        raise ConfigurationError("the embedded stack is not running", where="medallion env", fix="run `medallion up`")
    # This command is about the embedded server, whatever other server the environment names.
    os.environ.pop(_VARIABLES[0], None)
    prepare()
    for variable in _VARIABLES:
        if name is None:
            typer.echo(f"export {variable}={shlex.quote(os.environ[variable])}")
        elif name == variable:
            typer.echo(os.environ[variable])
