"""`medallion`, run as a person runs it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.loads.forking import ROOT


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
    *arguments: str, variables: Mapping[str, str] | None = None, timeout: float = 150, module: str = "flows.cli"
) -> Ended:
    """Run the command line with these variables; an empty value takes a variable away."""
    environment = {name: value for name, value in (os.environ | dict(variables or {})).items() if value}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
