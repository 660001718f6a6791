"""Logging in and out."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flows.dashboard.desk import desk
from flows.dashboard.guard import Asked, asked, cookie_of
from flows.dashboard.views import page


def safe_path(text: str) -> str:
    """A path of this site, or its first page."""
    parts = urlsplit(text)
    is_ours = text.startswith("/") and not text.startswith("//") and "\\" not in text and not parts.netloc
    return text if is_ours and text.isprintable() else "/"


async def form(request: Request) -> Response:
    """The login form, with a token that only the browser that asked for it can send back."""
    at, known = desk(request), asked(request)
    if known.person is not None:
        return RedirectResponse("/", status_code=303)
    name = f"{request.app.state.cookie}_login"
    nonce = cookie_of(request.headers, name) or secrets.token_urlsafe(24)
    request.state.asked = Asked(None, at.sessions.signed(f"login {nonce}"), {})
    shown = _shown(request, "")
    shown.set_cookie(name, nonce, httponly=True, samesite="strict", secure=_is_secure(request), path="/login")
    return shown


async def log_in(request: Request) -> Response:
    """Check the password or token; a new session begins."""
    at, given = desk(request), asked(request)
    name, password = given.field("name")[:100], given.form.get("password", [""])[0][:1000]
    if not at.sessions.may_try(name):
        shown = _shown(request, "Too many attempts. Wait a minute.", status=429)
        shown.headers["retry-after"] = "60"
        return shown
    # Some 50 ms of a core: other pages go on meanwhile.
    person = await asyncio.to_thread(at.people.by_password, name, password)
    if person is None:
        at.sessions.note_failure(name)
        words = "That is not the token of this start." if at.people.token else "Name or password is wrong."
        return _shown(request, words, status=401)
    if old := cookie_of(request.headers, request.app.state.cookie):
        at.sessions.end(old)
    done = RedirectResponse(safe_path(given.field("next")), status_code=303)
    done.set_cookie(
        request.app.state.cookie, at.sessions.begin(person), httponly=True, samesite="strict",
        secure=_is_secure(request), path="/",
    )  # fmt: skip
    return done


async def log_out(request: Request) -> Response:
    """End the session."""
    desk(request).sessions.end(cookie_of(request.headers, request.app.state.cookie))
    done = RedirectResponse("/login", status_code=303)
    done.delete_cookie(request.app.state.cookie, path="/")
    return done


def _shown(request: Request, problem: str, status: int = 200) -> Response:
    given = asked(request)
    by_token = desk(request).people.token is not None
    return page(
        request, "login.html", "Log in", status=status, problem=problem, by_token=by_token,
        next=safe_path(given.field("next") or request.query_params.get("next", "/")), name=given.field("name"),
    )  # fmt: skip


def _is_secure(request: Request) -> bool:
    """Whether the browser came by TLS: then its cookies stay there."""
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
