"""A command of `medallion`, forked from a process that has imported what it stands on: saves 3 s of a core each time.

Prefect and dbt are there already. Our own modules are imported anew, so that they read variables and declarations
as in a process of its own. What Prefect reads when it is imported it reads again: once before ours, and whenever a
variable of its has changed before one of our modules is imported, since `prepare` sets some before it imports Prefect.
"""

import atexit
import importlib
import importlib.abc
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from types import ModuleType

from prefect.context import refresh_global_settings_context

OURS = {"flows", "blocks", "deployments", "infra", "demo"}


def main() -> None:
    """Do what `python -m MODULE ARGUMENTS` does; what was registered for the end of a process is done then."""
    _, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    for name in [name for name, value in os.environ.items() if not value]:
        del os.environ[name]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.modules.pop(module, None)
    tempfile.tempdir = None  # or it would stay where the other process has its temporary files
    logging.getLogger().handlers.clear()  # Prefect lets those be that a library has set before it
    sys.meta_path.insert(0, _Reading())
    try:
        importlib.import_module(module).main()
    finally:
        # Prefect sends what runs have told when the main thread ends.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


class _Reading(importlib.abc.MetaPathFinder):
    """Finds nothing; sees which modules are about to be imported."""

    def __init__(self) -> None:
        self._read: dict[str, str] | None = None

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        variables = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
        if fullname.partition(".")[0] in OURS and variables != self._read:
            self._read = variables
            refresh_global_settings_context()
