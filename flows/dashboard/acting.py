"""Pages where something is done: alerts, silences, quarantine. By the functions of the command line, as the loader.

What is done is written to `ops.dashboard_actions` in the same transaction, or before it begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flows.dashboard import ledger
from flows.dashboard.desk import desk, needs, number_in, person_of, record, refused
from flows.dashboard.guard import asked
from flows.dashboard.operations import runbook_link
from flows.dashboard.people import OPERATOR, VIEWER, Person
from flows.dashboard.reading import operator
from flows.dashboard.views import link, page
from flows.declare.duration import parse_duration
from flows.operations import alerts as all_alerts
from flows.operations import silences
from flows.operations.messages import runbook
from flows.privacy.replay import load_again
from flows.values.errors import DeclarationError, MedallionError
from flows.verbs.quarantine import show_rows, tables_with_open_rows
from flows.verbs.replay import Replayed, plan_replay

#: Of a table in quarantine; the command line shows more.
_ROWS_SHOWN = 5
DURATIONS = ("1 h", "4 h", "1 day", "7 days")
#: Why a row stays in quarantine, if no rule says it.
VERDICTS = {
    "twice": "another chosen row has its key",
    "newer": "raw has a newer version: closed",
    "deleted": "deleted at the source since: closed",
    "key_taken": "raw has another row of this key",
    "key_not_unique": "several rows of the source have its key",
}


@needs(VIEWER)
async def alert(request: Request) -> Response:
    """One alert in full: cause, history, what is affected, what to do."""
    number, at = number_in(request, "id", 0), desk(request)
    async with at.reader.session() as connection:
        found = await all_alerts.alerts_of(connection, [number])
        if not found:
            raise DeclarationError(f"there is no alert {number}", where="ops.alerts", fix="open one from Alerts")
        history = await all_alerts.transitions_of(connection, number)
        messages = await all_alerts.messages_of(connection, found[0].incident_id)
    path = runbook(found[0])
    return page(
        request, "alert.html", f"Alert {number}: {found[0].about}", alert=found[0], history=history, messages=messages,
        readers=(await at.facts.models()).dependencies.readers([found[0].subject]), runbook=path,
        runbook_link=runbook_link(path), durations=DURATIONS,
    )  # fmt: skip


@needs(OPERATOR)
async def acknowledge(request: Request) -> Response:
    """Take up an alert, with all of its incident."""
    form, person = asked(request), person_of(request)
    number, note = _number(form.field("id")), form.field("note")[:500] or None
    async with operator() as connection, connection.transaction():
        await record(connection, person, "acknowledge", f"alert {number}", "done", note)
        await all_alerts.acknowledge(connection, [number], person.name, note)
    return _back(link("/alert", id=number))


@needs(OPERATOR)
async def silence(request: Request) -> Response:
    """Send nothing of matching alerts for a time."""
    form, person = asked(request), person_of(request)
    pattern, reason, lasting = form.field("pattern")[:300], form.field("reason")[:500], form.field("lasting")
    if not pattern or not reason or lasting not in DURATIONS:
        return refused(request, 400, "A silence needs a pattern, a duration and a reason.")
    async with operator() as connection, connection.transaction():
        await record(connection, person, "silence", f"{pattern} for {lasting}", "done", reason)
        await silences.silence(connection, pattern, parse_duration(lasting, "silence"), reason, person.name)
    return _back("/alerts")


@needs(OPERATOR)
async def unsilence(request: Request) -> Response:
    """End a silence now."""
    number = _number(asked(request).field("id"))
    async with operator() as connection, connection.transaction():
        await record(connection, person_of(request), "end silence", f"silence {number}", "done")
        await silences.end_silence(connection, number)
    return _back("/alerts")


@needs(VIEWER)
async def quarantine(request: Request) -> Response:
    """Open rows by table and rule; of one table, its first rows without values."""
    name = request.query_params.get("name", "")
    async with desk(request).reader.session() as connection:
        counts = await ledger.quarantine(connection)
    known = {one["table"] for one in counts}
    looks = await show_rows([name], _ROWS_SHOWN) if name in known and name in await tables_with_open_rows() else []
    return page(request, "quarantine.html", "Quarantine", counts=counts, name=name, looks=looks)


@needs(OPERATOR)
async def plan(request: Request) -> Response:
    """What a replay of a table's rows would do. Changes nothing."""
    name = await _table(asked(request).field("name"))
    return _planned(request, name, await plan_replay([name]))


@needs(OPERATOR)
async def replay(request: Request) -> Response:
    """Load a table's quarantined rows again: exactly what was shown, or it is shown again."""
    form, person = asked(request), person_of(request)
    name = await _table(form.field("name"))
    planned = await plan_replay([name])
    if form.field("plan") != fingerprint(planned):
        return _planned(request, name, planned, changed=True)
    await _note(person, name, "began")
    try:
        done = await load_again([name], person.name)
    except MedallionError as problem:
        await _note(person, name, "failed", problem.what)
        raise
    await _note(person, name, "done")
    return page(request, "replay.html", f"Replay of {name}", name=name, done=done, planned=False, changed=False,
                plan="", verdicts=VERDICTS)  # fmt: skip


def fingerprint(planned: Sequence[Replayed]) -> str:
    """What was shown: a yes to it holds for nothing else."""
    shown = [(one.table, one.rule, one.verdict, one.rows, list(one.ids)) for table in planned for one in table.outcomes]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def _planned(request: Request, name: str, planned: Sequence[Replayed], *, changed: bool = False) -> Response:
    return page(
        request, "replay.html", f"Replay of {name}: plan", status=409 if changed else 200, name=name, done=planned,
        planned=True, changed=changed, plan=fingerprint(planned), verdicts=VERDICTS,
    )  # fmt: skip


async def _table(name: str) -> str:
    if name not in await tables_with_open_rows():
        raise DeclarationError(
            f"table {name!r} has no open rows in quarantine, or is not declared",
            where="quarantine",
            fix="open it from Quarantine",
        )
    return name


async def _note(person: Person, name: str, outcome: str, note: str | None = None) -> None:
    async with operator() as connection:
        await record(connection, person, "replay", name, outcome, note)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _back(path: str) -> Response:
    return RedirectResponse(path, status_code=303)
