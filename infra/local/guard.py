"""Middleware of every server of the stack: proof of identity, and protection against requests of foreign web pages.

A page in the browser may send requests to 127.0.0.1, and may point its own host name there (DNS rebinding).
Both name themselves, in `Origin` and in `Host`; requests that come from neither this server's pages nor a program are
refused before the application sees them, websockets included. An address of numbers in `Host` is no rebound name: it
may be that of a port that somebody forwards.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from infra.local import proof
from infra.local.ports import HOST

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def origins(port: int) -> tuple[str, ...]:
    """The origins of the server's own pages."""
    return f"http://{HOST}:{port}", f"http://localhost:{port}"


#: Prefect's pages hold inline scripts and styles, and the logos of blocks are pictures from elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob: https:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' {allowed}; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Guard:
    """The application `app`, for requests to this server by its own names, from its own pages or from programs."""

    app: App
    port: int
    secret: str
    folder: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a challenge, refuse, or hand the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await _refuse(scope, send, *refusal)
        elif scope["type"] == "http" and scope["path"] == proof.PATH:
            challenge = parse_qs(scope["query_string"].decode("ascii", "replace")).get("challenge", [""])[0]
            await _answer(send, 200, proof.prove(self.secret, self.folder, self.port, challenge))
        else:
            await self.app(scope, receive, self._with_policy(send) if scope["type"] == "http" else send)

    def _with_policy(self, send: Send) -> Send:
        """Pages talk to this server only: Prefect's would report to Amplitude, whatever its settings say."""
        allowed = " ".join(
            (*origins(self.port), *(f"ws{origin.removeprefix('http')}" for origin in origins(self.port)))
        )
        policy = _POLICY.format(allowed=allowed).encode()

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                    message = {**message, "headers": [*headers, (b"content-security-policy", policy)]}
            await send(message)

        return sending

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not _is_address(hosts[0]):
            return 421, "unknown host name: use 127.0.0.1 or localhost"
        ours = (*origins(self.port), f"http://{hosts[0]}")
        if any(origin not in ours for origin in _values(scope, b"origin")):
            return 403, "this server only answers requests from its own pages"
        return None


def _is_address(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        return name == "localhost" or bool(ip_address(name))
    return False


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for header, value in scope["headers"] if header.lower() == name]


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})  # before it is accepted: HTTP 403
    else:
        await _answer(send, status, why)


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
