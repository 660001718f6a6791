"""Models that timed out waiting for a lock: the part of dbt's message that may be shown.

    gold.mart is in use: session 4711 of medallion_reader (psql) with AccessShareLock since 2026-05-04 08:00:00 UTC

The macro `wait_for_lock` writes the line. PostgreSQL's own messages may quote rows, so the rest is dropped.
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
#: PostgreSQL's English message for DDL without the macro.
_TIMED_OUT = "canceling statement due to lock timeout"
#: Its replacement.
NO_LOCK = "no lock within the role's lock_timeout"


def lock_wait(message: str) -> str | None:
    """The blocking sessions, from dbt's message of a failed node; None if it failed for another reason."""
    found = _IN_USE.search(message)
    if found is not None:
        return found["told"]
    return NO_LOCK if _TIMED_OUT in message or message == NO_LOCK else None


def waited_in_vain(waits: Sequence[str]) -> LoadLocked:
    """The error of a build whose nodes failed only because of locks."""
    return LoadLocked(
        "; ".join(dict.fromkeys(waits)),
        where="dbt build",
        fix="wait until these transactions end, or end them with `select pg_terminate_backend(…)`, and run again; "
        "built models are kept, the others are unchanged",
        retryable=True,
    )
