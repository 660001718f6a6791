"""The embedded stack's archiver of WAL, which `up` starts if a key is configured, and `down` stops."""

import os

from flows.values.settings import settings
from infra.local.companion import Companion
from infra.local.home import Home
from infra.local.process import Running

# It ships what it received before it stops.
ARCHIVER = Companion("WAL archiver", "archiver", grace=30)


def start(home: Home) -> Running | None:
    """Find the running archiver or start it; None if no key is configured, so that there is nothing to archive by.

    Raises KeyRefused if what is configured is no key, FolderUnusable, DiskFull.
    """
    if not settings().has_backup_key:
        return None
    from infra.backup import key  # the packages that encrypt are an extra

    if (running := ARCHIVER.running(home)) is None:
        key.keys()
        running = ARCHIVER.start(home, ["backup", "archive"], dict(os.environ))
    return running
