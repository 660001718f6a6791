"""What all pages stand on: sessions of the warehouse, remembered facts, who may what, and pages for what goes wrong."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from flows.dashboard import gold, views
from flows.dashboard.facts import Facts, Remembered
from flows.dashboard.guard import asked
from flows.dashboard.people import ANALYST, VIEWER, People, Person
from flows.dashboard.reading import STATEMENT_SECONDS, Reader, operator
from flows.dashboard.sessions import Sessions
from flows.failures.diagnose import CONNECTION_LOST, diagnose
from flows.state import ledger
from flows.values.errors import ConfigurationError, DeclarationError, MedallionError, WarehouseError
from flows.values.price import Price

if TYPE_CHECKING:
    from asyncpg import Connection, Record

log = logging.getLogger("medallion.dashboard")
Handler = Callable[[Request], Awaitable[Response]]
_OPERATIONS = (
    ("/", "Now"), ("/alerts", "Alerts"), ("/grid", "Loads by day"), ("/durations", "Durations"), ("/rows", "Rows"),
    ("/resources", "Resources"), ("/cost", "Cost"), ("/errors", "Errors"), ("/quarantine", "Quarantine"),
    ("/freshness", "Freshness"), ("/receipts", "Receipts"), ("/lineage", "Lineage"),
)  # fmt: skip
_BUSINESS = (
    ("/receipts", "Receipts", gold.RECEIPTS), ("/sales", "Sales", gold.SALES),
    ("/customers", "Customers", gold.CUSTOMERS), ("/campaigns", "Campaigns", gold.LIFT),
    ("/forecast", "Forecast", gold.FORECAST),
)  # fmt: skip
_MODELS_KEPT = 60.0


@dataclass(slots=True)
class Desk:
    """One running dashboard."""

    people: People
    reader: Reader = field(default_factory=Reader)
    sessions: Sessions = field(default_factory=Sessions)
    facts: Facts = field(init=False)
    gold: Remembered[frozenset[str]] = field(init=False)
    _seen: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        self.facts = Facts(self.reader)
        self.gold = Remembered(self._read_gold, _MODELS_KEPT)

    async def _read_gold(self) -> frozenset[str]:
        async with self.reader.session() as connection:
            self._seen = await gold.models(connection)
        return self._seen

    def menu(self, person: Person | None) -> list[tuple[str, list[tuple[str, str]]]]:
        """Groups of (path, name) that the person may open; those of gold, if their models exist."""
        groups: list[tuple[str, list[tuple[str, str]]]] = []
        if person is not None and person.may(VIEWER):
            has_prices = bool(Price.declared())
            groups.append(("Operations", [one for one in _OPERATIONS if one[0] != "/cost" or has_prices]))
        if person is not None and person.may(ANALYST):
            above = {path for _, entries in groups for path, _ in entries}
            found = [(path, name) for path, name, model in _BUSINESS if model in self._seen and path not in above]
            if found:
                groups.append(("Business", found))
        return groups


def desk(request: Request) -> Desk:
    """The dashboard that answers a request."""
    found: Desk = request.app.state.desk
    return found


def needs(role: str, *others: str, status: int = 200) -> Callable[[Handler], Handler]:
    """A page for those who have the role, or one of the others. What goes wrong in it becomes a page that says so."""

    def decorated(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            try:
                person = asked(request).person
                if person is None or not any(person.may(one) for one in (role, *others)):
                    return await _not_allowed(request, person, role)
                if person.may(ANALYST):
                    await desk(request).gold()
                return await handler(request)
            except Exception as problem:
                return went_wrong(request, problem)

        return guarded

    return decorated


async def _not_allowed(request: Request, person: Person | None, role: str) -> Response:
    if request.method == "POST" and person is not None:
        async with operator() as connection:
            await record(connection, person, request.url.path.strip("/"), f"needs {role}", "refused")
    words = f"This needs the role {role}. You have: {', '.join(sorted(person.roles)) if person else 'none'}."
    return refused(request, 403, words)


def refused(request: Request, status: int, words: str) -> Response:
    """A page about what was not done."""
    return views.page(request, "problem.html", "Not done", status=status, what=words, fix="", retry=False)


def went_wrong(request: Request, problem: Exception) -> Response:
    """A page about an error: what, and how to fix it; no traceback, and no text that may quote rows."""
    error = _explained(problem)
    if type(error) is MedallionError:
        log.error("%s %s\n%s", request.method, request.url.path, "".join(traceback.format_tb(problem.__traceback__)))
    is_missing = isinstance(error, DeclarationError)
    title = "Not found" if is_missing else "The dashboard cannot show this now"
    status = 404 if is_missing else 503 if isinstance(error, WarehouseError | ConfigurationError) else 500
    shown = views.page(
        request, "problem.html", title, status=status, what=f"{error.where}: {error.what}", fix=error.fix,
        retry=status == 503 and request.method == "GET",
    )  # fmt: skip
    if status == 503:
        shown.headers["retry-after"] = "10"
    return shown


def _explained(problem: Exception) -> MedallionError:
    match problem:
        case MedallionError():
            return problem
        case asyncpg.QueryCanceledError():
            return WarehouseError(
                f"the answer took longer than {STATEMENT_SECONDS} s, and was given up",
                where="warehouse",
                fix="try again; `medallion status` shows what keeps the warehouse busy",
                retryable=True,
            )
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            return WarehouseError(
                "schema ops is missing or older than this dashboard",
                where="warehouse",
                fix="run `medallion migrate`, or a first `medallion run`",
            )
        case asyncpg.InsufficientPrivilegeError():
            return WarehouseError(
                "the role of the dashboard may not read this",
                where="warehouse",
                fix="run infra/local/roles_dashboard.sql in the warehouse; `medallion up` does so for the embedded one",
            )
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | OSError() | TimeoutError():
            if isinstance(problem, CONNECTION_LOST):
                return WarehouseError(
                    "the connection was lost", where="warehouse", fix="try again in a moment", retryable=True
                )
    return diagnose(problem, "dashboard").error


async def record(
    connection: Connection[Record], person: Person, action: str, subject: str, outcome: str, note: str | None = None
) -> None:
    """Write down what somebody does, as the loader. Rows of this table are never changed."""
    await ledger.ensure_schema(connection)
    await connection.execute(
        "insert into ops.dashboard_actions (person, action, subject, outcome, note) values ($1, $2, $3, $4, $5)",
        person.name,
        action,
        subject,
        outcome,
        note,
    )


def person_of(request: Request) -> Person:
    """Who asks. Pages are behind `needs`, so there is somebody."""
    person = asked(request).person
    assert person is not None
    return person


def number_in(request: Request, name: str, fallback: int, among: Sequence[int] = ()) -> int:
    """A whole number of the query, if it is one, and one of these."""
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        return fallback
    return int(text) if not among or int(text) in among else fallback
