"""`medallion`, run as a person runs it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.dbt_project import parsed
from tests.kinds.conformance import forking
from tests.kinds.conformance.forking import ROOT

#: Where commands keep what dbt read of the project, below the home.
FOLDERS_OF_DBT = {"run": "dbt", "transform": "dbt", "docs": "dbt/docs"}


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return f"{self.out}\n{self.err}"

    @property
    def panel(self) -> str:
        """The error panel's words, without its frame and line breaks."""
        return re.sub(r"\s+", " ", self.err.replace("│", " "))


def medallion(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    timeout: int = 600,
    module: str = "flows.cli.app",
    anew: bool = False,
) -> Ended:
    """Run the command line with these variables; an empty value takes a variable away.

    In a process forked from one that has imported Prefect and dbt; `anew`, in one that is started as people start it.
    """
    environment = {name: value for name, value in (os.environ | dict(variables or {})).items() if value}
    folder = FOLDERS_OF_DBT.get(arguments[0])
    url = environment.get("MEDALLION_WAREHOUSE_TRANSFORMER_URL")
    if folder is not None and url is not None:
        parsed.hand_over(Path(environment["MEDALLION_HOME"]) / folder, url)
    if anew:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout
        )
    else:
        taken = dict.fromkeys(os.environ.keys() - environment.keys(), "")
        done = forking.run("tests.flows.forked_door", [module, *arguments], environment | taken, seconds=timeout)
    if folder is not None and url is not None:
        parsed.keep(Path(environment["MEDALLION_HOME"]) / folder, url)
    return Ended(done.returncode, done.stdout, done.stderr)


def told_by_medallion(*arguments: str) -> Ended:
    """What the command line says of itself, without doing anything: forked from a process that has imported it."""
    done = forking.run("flows.cli.app", list(arguments), {})
    return Ended(done.returncode, done.stdout, done.stderr)
