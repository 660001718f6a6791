"""The application: routes, and the guard around them.

guard → desk.needs(role) → operations, acting, business → views
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flows.dashboard import acting, business, login, money, operations, receipts
from flows.dashboard.desk import Desk, refused, went_wrong
from flows.dashboard.guard import Guard
from flows.dashboard.views import HERE
from flows.values.settings import settings

_PAGES = {
    "/": operations.now, "/alerts": operations.alerts, "/alert": acting.alert, "/grid": operations.grid,
    "/table": operations.table, "/load": operations.load, "/durations": operations.durations,
    "/rows": operations.rows, "/resources": operations.resources, "/cost": money.cost, "/errors": operations.errors,
    "/quarantine": acting.quarantine, "/freshness": operations.freshness, "/lineage": operations.lineage_page,
    "/sales": business.sales, "/customers": business.customers, "/campaigns": business.campaigns,
    "/forecast": business.forecast, "/receipts": receipts.receipts, "/login": login.form,
}  # fmt: skip
_ACTIONS = {
    "/login": login.log_in, "/logout": login.log_out, "/alerts/acknowledge": acting.acknowledge,
    "/alerts/silence": acting.silence, "/alerts/unsilence": acting.unsilence, "/quarantine/plan": acting.plan,
    "/quarantine/replay": acting.replay,
}  # fmt: skip
#: What may be posted, for tests that must try each.
ACTIONS = tuple(_ACTIONS)
PAGES = tuple(_PAGES)


def build(desk: Desk, port: int) -> Guard:
    """The application of a dashboard that listens on this port of the loopback interface."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await desk.reader.close()

    app = Starlette(
        routes=[
            *(Route(path, page, methods=["GET"]) for path, page in _PAGES.items()),
            *(Route(path, action, methods=["POST"]) for path, action in _ACTIONS.items()),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        exception_handlers={HTTPException: _no_page, Exception: _unforeseen},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    # Cookies are shared by all ports of a host.
    cookie = f"medallion_{port}"
    app.state.desk, app.state.menu, app.state.cookie = desk, desk.menu, cookie
    return Guard(app, desk.people, desk.sessions, _hosts(port), cookie, lambda *words: _refused(app, *words))


def _hosts(port: int) -> frozenset[str]:
    own = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    return frozenset(own | {name.lower() for name in settings().dashboard_hosts.split()})


def _refused(app: Starlette, request: Request, status: int, words: str) -> Response:
    request.scope["app"] = app
    return refused(request, status, words)


async def _no_page(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if request.url.path.startswith("/static/"):
        return Response(status_code=problem.status_code)
    words = "There is no such page." if problem.status_code == 404 else "This cannot be done here."
    return refused(request, problem.status_code, words)


async def _unforeseen(request: Request, problem: Exception) -> Response:
    return went_wrong(request, problem)
