"""Models that waited in vain for a lock: what dbt's message says of it that may be passed on.

    gold.mart is in use: session 4711 of medallion_reader (psql) with AccessShareLock since 2026-05-04 08:00:00 UTC

The macro `wait_for_lock` writes the line. PostgreSQL's own messages may quote rows, so nothing else of them is kept.
"""

import re
from collections.abc import Sequence

from flows.values.errors import LoadLocked

_SESSION = (
    r"session \d+ of [^\n;]{1,63} \([^\n;]{0,63}\) with \w+Lock since (?:before )?[\d-]{10} [\d:]{8} UTC"
    r"(?:, idle in transaction)?"
)
_IN_USE = re.compile(
    rf"^\s*(?P<told>[\w.]+ is in use: (?:{_SESSION}(?:; {_SESSION})*|by sessions that have just ended))\s*$",
    re.MULTILINE,
)
#: PostgreSQL's words, in English, for DDL that the macro does not wait for.
_TIMED_OUT = "canceling statement due to lock timeout"
#: What they become.
NO_LOCK = "no lock within the role's lock_timeout"


def lock_wait(message: str) -> str | None:
    """Who was waited for, from dbt's message of a failed node; None when it failed otherwise."""
    found = _IN_USE.search(message)
    if found is not None:
        return found["told"]
    return NO_LOCK if _TIMED_OUT in message or message == NO_LOCK else None


def waited_in_vain(waits: Sequence[str]) -> LoadLocked:
    """The error of a build whose nodes failed for nothing else."""
    return LoadLocked(
        "; ".join(dict.fromkeys(waits)),
        where="dbt build",
        fix="let these transactions end, or end them with `select pg_terminate_backend(…)`, and run it again; "
        "models that were built stay, and those that were not are as before",
        retryable=True,
    )
