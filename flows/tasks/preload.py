"""dbt, imported while sources are still being read: it takes 3 s of processor time, which a build would wait for.

A run in which no load changes anything builds nothing, and does without it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator


class _Preload:
    """`wanted` while a pipeline ingests; `thread` once a load of it has changed rows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted = False
        self.thread: threading.Thread | None = None


_PRELOAD = _Preload()


@contextlib.contextmanager
def preloading() -> Iterator[None]:
    """Within this context, the first load that changes rows starts the import. It has ended when the context has."""
    with _PRELOAD.lock:
        _PRELOAD.wanted, _PRELOAD.thread = True, None
    try:
        yield
    finally:
        with _PRELOAD.lock:
            _PRELOAD.wanted, thread = False, _PRELOAD.thread
        if thread is not None:
            thread.join()


def rows_changed() -> None:
    """A load has changed rows: models will be built."""
    with _PRELOAD.lock:
        if _PRELOAD.wanted and _PRELOAD.thread is None:
            _PRELOAD.thread = threading.Thread(target=_import, name="preload-dbt", daemon=True)
            _PRELOAD.thread.start()


def _import() -> None:
    """An import error is reported on use."""
    for module in ("prefect_dbt", "dbt.adapters.postgres"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
