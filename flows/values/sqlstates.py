"""PostgreSQL's errors, classified by SQLSTATE, for any driver: asyncpg, psycopg, or psycopg2 under dbt.

PostgreSQL quotes rows in DETAIL, and values even in the first line of errors of class 22 and 23. Only safe parts are
passed on: the SQLSTATE, its name, and the first line if its class is about objects and not about values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import asyncpg

from flows.values.errors import (
    ConfigurationError,
    FailureClass,
    MedallionError,
    SourceError,
    SourceUnavailable,
    WarehouseError,
)

PRIVILEGE_MISSING = "42501"
STATEMENT_CANCELLED = "57014"
PROTOCOL_VIOLATION = "08P01"
FEATURE_MISSING = "0A000"
TRANSACTION_TOO_LONG = "25P04"

_TRANSIENT_STATES = frozenset(["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300", "25006"])
_RESOURCE_STATES = frozenset(["53000", "53100", "53200", "53400"])
# Connections, features, transactions, rights, names, resources, limits, states, operators, files. Not 22 (data) and 23
# (constraints), which quote values; nor those that extensions, foreign servers and people's own functions use.
_CLASSES_THAT_SPEAK_OF_OBJECTS = frozenset(
    ["08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"]
)
# PostgreSQL's source files in which procedural languages raise errors of users' functions.
_SOURCES_OF_RAISE = frozenset(["pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"])
_CONFIGURATION_STATES = frozenset(["28P01", "28000", "3D000"])
_DENIED = re.compile(
    r"permission denied (?:for|to \w+) (schema|table|view|materialized view|foreign table|sequence|function|database) "
    r"(\S+)"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An error of the server: its SQLSTATE, the state's name, and its first line if that quotes no row."""

    state: str
    name: str
    message: str

    @classmethod
    def of(cls, problem: BaseException) -> Self | None:
        """The server's error, or None if the exception is not one."""
        if isinstance(problem, asyncpg.PostgresError):
            facts = problem.as_dict()
            message, file = str(problem.args[0]) if problem.args else "", facts.get("server_source_filename")
            return cls._safe(problem.sqlstate or "?????", message, file, "internal_query" in facts)
        # Both libpq drivers are recognised by common attributes, without importing them.
        state = getattr(problem, "sqlstate", None) or getattr(problem, "pgcode", None)
        said = getattr(problem, "diag", None)
        if not isinstance(state, str) or said is None:
            return None
        return cls._safe(state, said.message_primary or "", said.source_file, said.internal_query is not None)

    @classmethod
    def _safe(cls, state: str, message: str, file: str | None, composed: bool) -> Self:
        # Errors raised by users' functions may quote anything, under any SQLSTATE; so may queries they compose.
        safe = state[:2] in _CLASSES_THAT_SPEAK_OF_OBJECTS and file not in _SOURCES_OF_RAISE and not composed
        kind = type(asyncpg.PostgresError.new({"C": state, "M": ""}))
        name = "" if kind is asyncpg.PostgresError else kind.__name__.removesuffix("Error")
        return cls(state, name, message if safe else "")

    def __str__(self) -> str:
        named = f"{self.state} {self.name}".rstrip()
        return f"{named}: {self.message}" if self.message else named


#: For a lost connection, for which the libpq drivers have no SQLSTATE.
CONNECTION_LOST = Answer("08006", "ConnectionFailure", "")


def explain_answer(
    answer: Answer, where: str, side: str = "warehouse", role: str = "", grants: str = ""
) -> MedallionError:
    """The server's error as a MedallionError with its class and fix.

    `role` is the current role, and `grants` the statement for its missing privileges, if known.
    """
    what, state = f"the {side} answered {answer}", answer.state
    side_error = SourceError if side == "source" else WarehouseError
    if state in _CONFIGURATION_STATES:
        return ConfigurationError(
            what,
            where=where,
            fix=f"check user, password and database in the {side}'s URL or block, then run again",
        )
    if state == STATEMENT_CANCELLED:
        return _cancelled(what, answer.message, where, side)
    if state == PROTOCOL_VIOLATION:
        # A pooler that does not know a start-up parameter, or something that is no PostgreSQL: no retry changes that.
        move = f"check what answers at the {side}'s URL; if it is a pooler, let it accept the named start-up parameter "
        move += "(PgBouncer: ignore_startup_parameters), or name the server itself"
        return _classed(side_error(what, where=where, fix=move), FailureClass.PERMANENT)
    if state in _TRANSIENT_STATES or state[:2] == "08":
        kind = SourceUnavailable if side == "source" else WarehouseError
        return _classed(kind(what, where=where, fix=_TRY_AGAIN, retryable=True), FailureClass.TRANSIENT)
    if state == FEATURE_MISSING and "XML" in answer.message:
        move = f"the {side}'s PostgreSQL was built without xml: declare a view at the source that casts the column to "
        move += "text"
        return _classed(side_error(what, where=where, fix=move), FailureClass.SCHEMA)
    if state == TRANSACTION_TOO_LONG:
        move = f"raise transaction_timeout of the role at the {side} (or of the pooler), then run again"
        return _classed(side_error(what, where=where, fix=move), FailureClass.RESOURCE)
    if state in _RESOURCE_STATES:
        move = f"free disk or memory on the {side}, then run again"
        return _classed(side_error(what, where=where, fix=move), FailureClass.RESOURCE)
    if state[:2] in {"22", "23"}:
        move = "a value does not fit raw's column: compare the staged rows with raw"
        return _classed(side_error(what, where=where, fix=move), FailureClass.DATA)
    if state == PRIVILEGE_MISSING and "row-level security" in answer.message:
        move = f"let the role see all rows, as a superuser at the {side}: alter role {role or 'ROLE'} bypassrls; or "
        move += "declare a view of the rows that may be read, owned by a role that the policy does not filter"
        if side == "source":
            move += "; or declare sees_a_part=True to load what the role sees"
        return _classed(side_error(what, where=where, fix=move), FailureClass.PERMANENT)
    if state == PRIVILEGE_MISSING:
        move = f"as its owner: {grants} Then run again. {_ROLES}" if grants else _grant(answer.message, side, role)
        return _classed(side_error(what, where=where, fix=move), FailureClass.PERMANENT)
    if state[:2] == "42":
        move = "compare the declaration with the source's tables and the role's privileges on them"
        return _classed(side_error(what, where=where, fix=move), FailureClass.SCHEMA)
    return side_error(what, where=where, fix=f"look {state} up in PostgreSQL's list of error codes")


_ROLES = "docs/architecture.md#roles"
_TRY_AGAIN = "the load is retried automatically, from the last commit"


def _classed(error: MedallionError, failure_class: FailureClass) -> MedallionError:
    error.failure_class = failure_class
    return error


def _grant(message: str, side: str, role: str) -> str:
    """The grant statement, as far as PostgreSQL reports what is missing."""
    grantee = role or f"the role in the {side}'s URL"
    denied = _DENIED.search(message)
    if denied is None:
        return (
            f"grant {grantee} the missing privileges, or make it the owner (docs/architecture.md#roles), then run again"
        )
    kind, name = denied.groups()
    right = {"schema": "usage", "sequence": "usage", "function": "execute", "database": "connect"}.get(kind, "select")
    if right == "select":
        # Without its schema this cannot be run: `missing_grants` looks it up in the catalog.
        return f"ask the owner of {kind} {name} to grant {grantee} the missing privileges, then run again. {_ROLES}"
    also = " (and create, if it writes there)" if kind in {"schema", "database"} else ""
    return f"as its owner: grant {right} on {kind} {name} to {grantee}{also}; then run again. {_ROLES}"


def _cancelled(what: str, message: str, where: str, side: str) -> MedallionError:
    """A cancelled statement: by a user, or by the timeout, in any language of the server.

    Run again, it would take as long again.
    """
    kind = SourceError if side == "source" else WarehouseError
    if "user request" in message:
        return kind(what, where=where, fix="a user cancelled the statement: find out who and why, then run again")
    error = kind(
        what,
        where=where,
        fix="raise MEDALLION_STATEMENT_TIMEOUT_SECONDS, or find out why the statement is slow "
        f"on the {side}; then run again",
    )
    return _classed(error, FailureClass.RESOURCE)
