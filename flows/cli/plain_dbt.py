"""`medallion dbt`: dbt itself, with the connection set."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.terminal import console, keep_private


def dbt(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGUMENT]...", help="dbt's own, for example build --select household"),
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Read the shared schemas instead of your private ones")
    ] = False,
    env_file: Annotated[
        bool, typer.Option("--env-file", help="Write dbt's variables to .medallion/dbt.env, for shells and editors")
    ] = False,
) -> None:
    """Run dbt with the connection, the project and your private schemas set. Options of ours come first."""
    keep_private()
    from flows.models.plain_dbt import plain_environment, refuse_shared_build, run_plain, write_env_file

    if shared:
        refuse_shared_build(arguments or [], env_file=env_file)
    variables = plain_environment(shared=shared)
    if env_file:
        console.print(f"  written: {write_env_file(variables)}", soft_wrap=True)
        console.print("It holds the transformer's password. In a shell: set -a; source .medallion/dbt.env; set +a")
    if arguments or not env_file:
        raise typer.Exit(run_plain(arguments or ["--help"], variables))
