"""`medallion worker` and `medallion env`: what runs deployments, and how other tools reach the embedded server."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from flows.access import addresses
from flows.cli.terminal import console, prepare
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

_VARIABLES = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


def worker(
    pool: Annotated[str, typer.Option("--pool", help="The work pool whose runs it takes")] = "local",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many runs at one time")] = None,
) -> None:
    """Run what is scheduled: a Prefect worker in the foreground, until Ctrl-C."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
    prepare()
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    api_url = get_current_settings().api.url
    if api_url is None:
        # Prefect would start a server of its own, in which nothing is ever scheduled.
        raise ConfigurationError(
            "no Prefect server is configured",
            where=f"work pool {pool}",
            fix="run `medallion up` for the embedded one, or set PREFECT_API_URL",
        )
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
    except ObjectNotFound as error:
        # Prefect's worker would wait for it for ever.
        raise ConfigurationError(
            f"there is no work pool {pool}",
            where=api_url,
            fix="name another with --pool; `medallion register` makes the pool local",
        ) from error
    console.print(f"A worker for the pool {pool} of {api_url}. What it does follows; Ctrl-C stops it.", highlight=False)
    console.print("The logs of each run are kept by the Prefect server, with the run.")
    sys.stdout.flush()
    if (stack := addresses.embedded_stack()) is not None and stack["prefect"]["api_url"] == api_url:
        _reach_through_relay(stack["prefect"]["ui_url"])
    bound = [] if limit is None else ["--limit", str(limit)]
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--no-create-pool-if-not-found", *bound]
    # It becomes the worker: Ctrl-C and SIGTERM reach Prefect's own handlers, and nothing waits in between.
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 # nosec B606 - our own interpreter, without a shell


def _reach_through_relay(ui_url: str) -> None:
    """Let the worker and its flow runs reach the embedded server through a relay, which alone has the auth string."""
    from infra.local import relay
    from infra.local.home import Home

    os.environ.update(relay.start(Home(settings().home)))
    os.environ.setdefault("PREFECT_UI_URL", ui_url)  # else links to runs would name the relay


def env(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this variable, and of it only the value")
    ] = None,
) -> None:
    """Print what other tools need to reach the embedded Prefect server: eval "$(medallion env)"."""
    if name not in (None, *_VARIABLES):
        raise typer.BadParameter(f"one of {', '.join(_VARIABLES)}", param_hint="NAME")
    if addresses.embedded_stack() is None:
        raise ConfigurationError("the embedded stack is not running", where="medallion env", fix="run `medallion up`")
    # The embedded server is asked for, whatever other the environment names.
    os.environ.pop(_VARIABLES[0], None)
    prepare()
    for variable in _VARIABLES:
        if name is None:
            typer.echo(f"export {variable}={shlex.quote(os.environ[variable])}")
        elif name == variable:
            typer.echo(os.environ[variable])
