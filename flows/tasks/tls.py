"""One TLS context for all of Prefect's clients in a process.

Prefect creates a client per task run and per artifact, and each client loads all trusted CA certificates: some 140, in
40 ms of CPU time. In a run that builds 100 models this was 15 of 49 CPU seconds. Contexts are designed to be shared.
"""

import ssl
from functools import cache
from types import ModuleType

from prefect.client import orchestration


class _Ssl(ModuleType):
    """Python's module `ssl`, except that a context for the same CA file is created once."""

    def __init__(self) -> None:
        super().__init__(ssl.__name__, ssl.__doc__)
        self.__dict__.update(vars(ssl))
        self.create_default_context = _create


def share() -> None:
    """From here on, clients of this process with the same CA file share one context.

    Prefect has no setting for it. If a later version creates its contexts elsewhere, only the gain is lost.
    """
    if getattr(orchestration, "ssl", None) is ssl:
        orchestration.ssl = _Ssl()  # type: ignore[attr-defined]


def _create(*given: object, cafile: str | None = None, **more: object) -> ssl.SSLContext:
    # Without a file, verification is about to be disabled: that context must not be shared.
    if given or more or cafile is None:
        return ssl.create_default_context(*given, cafile=cafile, **more)  # type: ignore[arg-type]
    return _shared(cafile)


@cache
def _shared(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)
