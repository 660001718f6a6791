"""One TLS context for all of Prefect's clients in a process.

Prefect makes a client for each run of a task and for each artifact, and each client reads all authorities that are
trusted, anew: some 140, in 40 ms of a core. In a run that builds 100 models this was 15 of 49 seconds of a core.
Contexts are made to be shared.
"""

import ssl
from functools import cache
from types import ModuleType

from prefect.client import orchestration


class _Ssl(ModuleType):
    """Python's module `ssl`, except that a context for the same file of authorities is made once."""

    def __init__(self) -> None:
        super().__init__(ssl.__name__, ssl.__doc__)
        self.__dict__.update(vars(ssl))
        self.create_default_context = _create


def share() -> None:
    """From here on, clients of this process that trust the same authorities use one context.

    Prefect has no setting for it. Should a later version no longer make its contexts there, only the gain is lost.
    """
    if getattr(orchestration, "ssl", None) is ssl:
        orchestration.ssl = _Ssl()  # type: ignore[attr-defined]


def _create(*given: object, cafile: str | None = None, **more: object) -> ssl.SSLContext:
    # Without a file it is about to be told to verify nothing: that must stay its own.
    if given or more or cafile is None:
        return ssl.create_default_context(*given, cafile=cafile, **more)  # type: ignore[arg-type]
    return _shared(cafile)


@cache
def _shared(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)
