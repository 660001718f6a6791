"""The embedded stack's watch, which `up` starts and `down` stops. What it does: docs/watch.md."""

import os

from infra.local.companion import Companion
from infra.local.home import Home
from infra.local.process import Running
from infra.local.service import finds_checkout, without

WATCH = Companion("Watch", "watch")


def start(home: Home) -> Running:
    """Find the running watch or start it.

    Raises FolderUnusable, DiskFull.
    """
    # The server's address and credentials are read from stack.json, where they are current after a restart.
    return WATCH.start(home, ["watch"], {**without("PREFECT_API_", dict(os.environ)), **finds_checkout()})
