"""dbt, imported while sources are still being read: it takes 3 s of processor time, which a build would wait for.

A run in which no load changes anything builds nothing, and does without it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator


class _Preload:
    """The import of this process: wanted while a pipeline ingests, started once a load of it has changed rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self._thread: threading.Thread | None = None

    def want(self) -> None:
        with self._lock:
            self._wanted = True
            self._thread = None

    def start(self) -> None:
        with self._lock:
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=_import, name="preload-dbt", daemon=True)
                self._thread.start()

    def end(self) -> None:
        with self._lock:
            self._wanted = False
        if self._thread is not None:
            self._thread.join()


@contextlib.contextmanager
def preloading() -> Iterator[None]:
    """Within this context, the first load that changes rows starts the import. It has ended when the context has."""
    _PRELOAD.want()
    try:
        yield
    finally:
        _PRELOAD.end()


def rows_changed() -> None:
    """A load has changed rows: models will be built."""
    _PRELOAD.start()


def _import() -> None:
    """An import error is reported on use."""
    for module in ("prefect_dbt", "dbt.adapters.postgres"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


_PRELOAD = _Preload()
