"""Questions to people and their answers, in `ops.decisions`. Plans have counts and names, no values of rows."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.values.asking import Answer
from flows.values.errors import DeclarationError
from flows.values.question import Question

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.declare.ask import Ask

#: What loads ask about.
OF_LOADS = ("rejected rows", "deletes", "columns")
#: Who requested what no person started.
SCHEDULE = "a deployment"


@dataclass(frozen=True, slots=True)
class Decision:
    """One question and, if there is one, its answer."""

    decision_id: int
    kind: str
    subject: str
    what: str
    plan: dict[str, Any]
    plan_digest: str
    two_persons: bool
    requested_by: str
    run_id: int | None
    batch_id: int | None
    flow_run_id: str | None
    asked_at: datetime
    expires_at: datetime
    status: str
    answered_at: datetime | None
    answered_by: str | None
    by_role: str | None
    answered_through: str | None
    reason: str | None
    used_at: datetime | None
    used_by_run: int | None
    used_by_batch: int | None

    @property
    def outcome(self) -> str:
        """`accepted by anna`, `open`."""
        return f"{self.status} by {self.answered_by}" if self.status in ("accepted", "refused") else self.status


@dataclass(frozen=True, slots=True)
class Origin:
    """What asks: a table of a source (or None), in which run and load."""

    subject: str
    source: str | None = None
    table: str | None = None
    run_id: int | None = None
    batch_id: int | None = None


_COLUMNS = ", ".join(f"d.{name}" for name in Decision.__dataclass_fields__)
_LIVE = "d.used_at is null and d.status in ('open', 'accepted', 'refused')"


def requester() -> str:
    """Who started this process: the person's account, or a deployment, which has no person."""
    return SCHEDULE if os.environ.get("PREFECT__FLOW_RUN_ID") else getpass.getuser()


async def raise_question(
    connection: Connection[Record], question: Question, what: str, origin: Origin, ask: Ask
) -> tuple[int, bool]:
    """The number of the open question about this, and whether it is a new one. Call it in a transaction.

    An open question about the same plan, or about more, is not asked twice. One about another plan is void.
    """
    await connection.execute("select ops.expire_decisions()")
    # Two runs that ask at once: the second finds the question of the first.
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"decision {question.kind} {origin.subject}"
    )
    live = await _one(connection, f"{_LIVE} and d.kind = $1 and d.subject = $2", question.kind, origin.subject)
    if live is not None and live.status == "open" and question.is_within(live.plan):
        return live.decision_id, False
    if live is not None:
        await connection.execute("update ops.decisions set status = 'void' where decision_id = $1", live.decision_id)
    number: int = await connection.fetchval(
        "insert into ops.decisions (kind, subject, source_system, table_name, what, plan, plan_digest, two_persons, "
        "requested_by, run_id, batch_id, flow_run_id, lasts, expires_at) "
        "values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9, $10, $11, $12, $13::interval, "
        "clock_timestamp() + $13::interval) "
        "returning decision_id",
        question.kind,
        origin.subject,
        origin.source,
        origin.table,
        what,
        json.dumps(question.plan),
        question.digest,
        ask.two_persons,
        requester(),
        origin.run_id,
        origin.batch_id,
        os.environ.get("PREFECT__FLOW_RUN_ID"),
        ask.lasts,
    )
    return number, True


async def answers(connection: Connection[Record], subject: str, kinds: Sequence[str] = OF_LOADS) -> dict[str, Answer]:
    """Answers about the subject that no run has used yet, by kind."""
    await connection.execute("select ops.expire_decisions()")
    found = await find(
        connection, f"{_LIVE} and d.status <> 'open' and d.subject = $1 and d.kind = any($2::text [])", subject, kinds
    )
    return {
        one.kind: Answer(one.decision_id, one.status == "accepted", str(one.answered_by), one.plan) for one in found
    }


async def use(
    connection: Connection[Record], numbers: Iterable[int], run_id: int | None = None, batch_id: int | None = None
) -> None:
    """Record, in the transaction of what they allow or refuse, that these answers are used up.

    Raises:
        DeclarationError: another run has used one meanwhile.
    """
    wanted = sorted(numbers)
    if not wanted:
        return
    used = await connection.fetch(
        "update ops.decisions set used_at = clock_timestamp(), used_by_run = $2, used_by_batch = $3 "
        "where decision_id = any($1::bigint []) and used_at is null and status in ('accepted', 'refused') "
        "returning decision_id",
        wanted,
        run_id,
        batch_id,
    )
    if len(used) != len(wanted):
        raise DeclarationError(
            f"the answer to decision {', '.join(map(str, wanted))} is used up or void",
            where="ops.decisions",
            fix="run it again: it asks again",
        )


async def find(connection: Connection[Record], condition: str, *arguments: Any) -> list[Decision]:
    """Decisions by an SQL condition over `d`, the oldest first."""
    records = await connection.fetch(
        f"select {_COLUMNS} from ops.decisions as d where {condition} order by d.decision_id", *arguments
    )
    return [Decision(**{**dict(record), "plan": json.loads(record["plan"])}) for record in records]


async def listed(connection: Connection[Record], closed_within: timedelta = timedelta()) -> list[Decision]:
    """Open questions and answers that are not used yet; and those that were asked within this time."""
    return await find(
        connection, f"({_LIVE} and d.expires_at > now()) or d.asked_at > now() - $1::interval", closed_within
    )


async def need(connection: Connection[Record], number: int) -> Decision:
    """One decision.

    Raises:
        DeclarationError: there is none of that number.
    """
    found = await _one(connection, "d.decision_id = $1", number)
    if found is None:
        raise DeclarationError(
            f"decision {number} does not exist", where="ops.decisions", fix="run `medallion decide list`"
        )
    return found


async def answer(
    connection: Connection[Record], number: int, *, accept: bool, by: str, reason: str, through: str = "command"
) -> bool:
    """Answer an open question; False if somebody was first, or it is closed.

    Raises:
        DeclarationError: no reason or name, nobody of that role may answer, or who requested it may not accept it.
    """
    given = "accept" if accept else "refuse"
    try:
        won: bool = await connection.fetchval(
            "select ops.answer_decision($1, $2, $3, $4, $5)", number, given, by, reason, through
        )
    except asyncpg.InsufficientPrivilegeError as problem:
        # The function's own text, or PostgreSQL's about the function: neither has values.
        raise DeclarationError(
            f"{problem.args[0]}",
            where=f"decision {number}",
            fix="ask another person to answer; docs/decisions-by-people.md says who may",
        ) from None
    except asyncpg.InvalidParameterValueError:
        raise DeclarationError(
            "an answer needs a name and a reason", where=f"decision {number}", fix='add --reason "…"'
        ) from None
    return won


async def _one(connection: Connection[Record], condition: str, *arguments: Any) -> Decision | None:
    found = await find(connection, condition, *arguments)
    return found[-1] if found else None
