"""What each request passes before a page sees it: host, login, origin, token; and what each answer carries.

host (DNS rebinding) → who (session or proxy) → for a POST: origin, size, token (CSRF) → the page
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.dashboard.people import People, Person
from flows.dashboard.sessions import Sessions

#: Of a form. The longest has a reason and a hundred ids.
MOST_BYTES = 64 * 1024
LOGIN = "/login"
_STATIC = "/static/"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers would then send the origin of a form as "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and the token of their forms; of a POST, its fields."""

    person: Person | None
    csrf: str
    form: dict[str, list[str]]

    def field(self, name: str) -> str:
        """The field's value, or ""."""
        return self.form.get(name, [""])[0].strip()


def asked(request: Request) -> Asked:
    """What the guard found out about a request."""
    found: Asked = request.state.asked
    return found


@dataclass(slots=True)
class Guard:
    """Around the whole application. `hosts` are the allowed values of the header Host, such as `127.0.0.1:4300`."""

    app: ASGIApp
    people: People
    sessions: Sessions
    hosts: frozenset[str]
    cookie: str
    refused: Callable[[Request, int, str], Response]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                # Pages contain personal data; files of the package are checked again by their ETag.
                headers["cache-control"] = "no-cache" if scope["path"].startswith(_STATIC) else "no-store"
            await send(message)

        answer = await self._answer(scope, receive)
        await (self.app if answer is None else answer)(scope, receive, with_headers)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """What is answered in the page's place; None: the page may."""
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.hosts:
            return PlainTextResponse("This host name is not served here.\n", status_code=421)
        if scope["path"].startswith(_STATIC):
            return None
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Method not allowed.\n", status_code=405, headers={"allow": "GET, HEAD, POST"})
        person, csrf = self._who(headers)
        form: dict[str, list[str]] = {}
        scope.setdefault("state", {})["asked"] = Asked(person, csrf, form)
        request = Request(scope, receive)
        if person is None and scope["path"] != LOGIN:
            return self._to_login(scope, headers)
        if scope["method"] != "POST":
            return None
        if not self._is_own_page(headers):
            return self.refused(request, 403, "The form was sent by a page of another site.")
        body = await _read(receive)
        if body is None:
            return self.refused(request, 413, "The form is too large.")
        form |= parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=500)
        sent = form.get("csrf", [""])[0]
        if not csrf or not hmac.compare_digest(sent.encode(), csrf.encode()):
            return self.refused(request, 403, "The form is out of date. Load the page again and repeat what you did.")
        return None

    def _who(self, headers: Headers) -> tuple[Person | None, str]:
        cookie = cookie_of(headers, self.cookie)
        if self.people.header is not None:
            name = headers.get(self.people.header, "")
            person = self.people.by_proxy(headers.get("x-medallion-proxy", ""), name)
            return person, self.sessions.signed(f"person {name}") if person else ""
        session = self.sessions.find(cookie) if cookie else None
        if session is not None:
            return session.person, session.csrf
        before = cookie_of(headers, f"{self.cookie}_login")
        return None, self.sessions.signed(f"login {before}") if before else ""

    def _to_login(self, scope: Scope, headers: Headers) -> Response:
        if self.people.header is not None:
            return PlainTextResponse("You are not listed in MEDALLION_DASHBOARD_USERS.\n", status_code=403)
        query = scope["query_string"].decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        target = LOGIN if scope["method"] == "POST" or path == "/" else f"{LOGIN}?next={quote(path, safe='')}"
        if "hx-request" in headers:
            return Response(status_code=401, headers={"hx-redirect": target})
        return RedirectResponse(target, status_code=303)

    def _is_own_page(self, headers: Headers) -> bool:
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc.lower() in self.hosts


def cookie_of(headers: Headers, name: str) -> str:
    """A cookie's value, or ""."""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return body
