"""What dbt tells of PostgreSQL's errors: SQLSTATE, and messages about objects that the statement itself names.

dbt makes each error's text of PostgreSQL's, which quotes values: of rows (`malformed array literal: "…"`), of patterns
and time zones (`time zone "…" not recognized`), of lines of COPY, of whatever RAISE was given. The text then is in its
log, in Prefect's, in run_results.json and in artifacts. Here it is made at the one place where dbt makes it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from flows.models.lock_waits import NO_LOCK, lock_wait
from flows.values.sqlstates import Answer

# What the macro `keep_permissions` raises: names of objects, and PostgreSQL's messages about these.
_KEPT = re.compile(r"^\s*(?P<told>the permissions of [\w.\"]{1,130} cannot be kept: [^\n]{1,300})$", re.MULTILINE)
# In any language of the server: English, German, French and others quote names by one of these.
_QUOTED = re.compile(r"\"([^\"]*)\"|«\s*([^»]*?)\s*»|»([^«]*)«|„([^“]*)“|“([^”]*)”")
_MARKS = re.compile(r"[\"«»„“”]")
# Errors of names, found while a statement is parsed. The same are raised when a name comes out of a row, as in
# `v::regclass`: there they quote the value.
_OF_NAMES = ("42", "3F")
_PRIVILEGE_MISSING = "42501"


def permissions_refused(message: str) -> str | None:
    """What cannot be kept of a relation's permissions, from the message of `keep_permissions`; else None."""
    found = _KEPT.search(message)
    return None if found is None else found["told"]


def told(problem: BaseException, sql: str) -> str:
    """The error's text for logs. `sql` is the statement that caused it."""
    said = str(problem)
    if (ours := lock_wait(said) or permissions_refused(said)) not in (None, NO_LOCK):
        return str(ours)
    # libpq's errors, about a connection, have no SQLSTATE.
    return str(answer_of(problem, sql) or f"{type(problem).__name__} without a SQLSTATE")


def answer_of(problem: BaseException, sql: str) -> Answer | None:
    """The server's error, without its message if that says more than the statement; None if it is not the server's."""
    answer = Answer.of(problem)
    if answer is None or not answer.message or _is_of(sql, problem, answer):
        return answer
    return Answer(answer.state, answer.name, "")


def told_answer(problem: BaseException) -> Answer | None:
    """The server's error behind one of dbt's that this module has made."""
    answer = getattr(problem, "told_answer", None)
    return answer if isinstance(answer, Answer) else None


def _is_of(sql: str, problem: Any, answer: Answer) -> bool:
    """Whether the message says nothing but what the statement says."""
    names = [next(filter(None, found), "") for found in _QUOTED.findall(answer.message)]
    unquoted = sql.replace('"', "")
    if any(name not in unquoted for name in names):
        return False
    # `relation "silver.x" does not exist` has a place in the statement; from a value, it has none.
    if getattr(problem.diag, "statement_position", None) is not None or answer.state == _PRIVILEGE_MISSING:
        return True
    # A value with quotation marks in it could show only what is outside of them.
    return len(names) == 1 and len(_MARKS.findall(answer.message)) == 2 if names else answer.state[:2] not in _OF_NAMES


@contextlib.contextmanager
def telling_no_values() -> Iterator[None]:
    """Within this context, dbt's errors of statements have these texts. Its own, of templates and names, are kept."""
    import psycopg2  # type: ignore[import-untyped]
    from dbt.adapters.postgres.connections import PostgresConnectionManager
    from dbt_common.exceptions import DbtDatabaseError, DbtRuntimeError

    manager: Any = PostgresConnectionManager
    former = manager.exception_handler  # AttributeError if dbt removes it: then nothing runs, rather than tells all

    @contextlib.contextmanager
    def exception_handler(self: Any, sql: str) -> Iterator[None]:
        # As dbt's, without its lines for those who look for faults, which have the text too. `from None` keeps the
        # original out of printed tracebacks; it stays in __context__, where its SQLSTATE is read.
        try:
            yield
        except psycopg2.DatabaseError as problem:
            with contextlib.suppress(psycopg2.Error):
                self.rollback_if_open()
            error: Any = DbtDatabaseError(told(problem, str(sql)))
            error.told_answer = answer_of(problem, str(sql))
            raise error from None
        except Exception as problem:
            self.rollback_if_open()
            if isinstance(problem, DbtRuntimeError):
                raise
            raise DbtRuntimeError(f"{type(problem).__name__} while a statement ran") from None

    manager.exception_handler = exception_handler
    try:
        yield
    finally:
        manager.exception_handler = former
