"""dbt's command line, for a process forked from one that has imported it: saves 3 s of a core each time."""

import dbt.adapters.postgres  # noqa: F401 - or every fork would import it
import prefect.flows  # noqa: F401 - commands are forked from the same process: see tests/flows/forked_door.py
from dbt.cli.main import cli


def main() -> None:
    """Do what `dbt` does; ends the process by SystemExit, as it does."""
    cli(prog_name="dbt")
