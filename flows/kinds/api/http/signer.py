"""What adds a credential to a request."""

from __future__ import annotations

import importlib
import inspect
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.sent import ApiKeyBody, ApiKeyHeader, ApiKeyQuery, Basic, Bearer, Cookie
from flows.kinds.api.declared.tokens import Signed
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.request import PageRequest, without_parameter
from flows.values.errors import ConfigurationError, DeclarationError


@dataclass(slots=True)
class Outgoing:
    """A request on its way out, to be signed: `url`, `headers` and `body` may be changed.

    `used` is the signer's own mark: which credential it has added; `refused`: those that were refused before.
    """

    method: str
    url: httpx.URL
    headers: httpx.Headers
    body: bytes
    used: str = ""
    refused: tuple[int, ...] = ()

    @property
    def target(self) -> str:
        """Path and query, as sent."""
        return self.url.raw_path.decode("ascii")

    def __repr__(self) -> str:
        return f"Outgoing({self.method})"


class Signer(Protocol):
    """Adds a credential to an outgoing request."""

    async def sign(self, request: Outgoing) -> None:
        """Sign the request in place."""
        ...

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """Whether to send the request again, since the response is about its credential and another one is there."""
        ...

    async def aclose(self) -> None:
        """Close the resources of signing."""
        ...


class KeySigner:
    """Signs with a credential that does not change."""

    def __init__(self, auth: Auth, key: str, user: str = "") -> None:
        self._auth, self._key, self._user = auth, key, user

    async def sign(self, request: Outgoing) -> None:
        """Add the key where the API expects it."""
        place(self._auth, request, self._key, self._user)

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """There is no other one."""
        return False

    async def aclose(self) -> None:
        """Nothing to close."""


class HookSigner:
    """Signs by the declared function."""

    def __init__(self, auth: Signed, key: str, user: str, source: str) -> None:
        self._name, self._key, self._user = auth.hook, key, user
        self._hook = hook_of(auth.hook, source)

    async def sign(self, request: Outgoing) -> None:
        """Call the function.

        Raises:
            AttemptFailed: it raised an error, whose text is not repeated: it may quote the key.
        """
        origin = (request.url.scheme, request.url.host, request.url.port)
        try:
            self._hook(request, self._key, self._user)
            found = ""
        except Exception as error:
            found = f"raised {type(error).__name__}"
        if not found and (request.url.scheme, request.url.host, request.url.port) != origin:
            found = "has changed the host of the URL"
        if found:
            raise AttemptFailed(
                f"the function {self._name}, which signs requests, {found}",
                "call it in a test with a request of your own; it must only set headers and the query",
                kind=ConfigurationError,
            )

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """The same signature would be refused again."""
        return False

    async def aclose(self) -> None:
        """Nothing to close."""


def hook_of(name: str, source: str) -> Callable[[Outgoing, str, str], None]:
    """The function that a declaration names.

    Raises:
        DeclarationError: there is none, or it takes other arguments.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
        inspect.signature(found).bind(None, "", "")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        problem = type(error).__name__
    else:
        if not inspect.iscoroutinefunction(found):
            hook: Callable[[Outgoing, str, str], None] = found
            return hook
        problem = "it is asynchronous"
    raise DeclarationError(
        f"{name} cannot be used to sign requests ({problem})",
        where=f"source {source}",
        fix="write a function with the parameters request, key and user there",
    )


def place(auth: Auth, request: Outgoing, key: str, user: str = "") -> None:
    """Put a key into a request where the API expects it."""
    match auth:
        case ApiKeyHeader(header=header):
            request.headers[header] = key
        case ApiKeyQuery(parameter=parameter):
            request.url = _with_query(request.url, parameter, key)
        case Basic():
            pair = b64encode(f"{user}:{key}".encode()).decode("ascii")
            request.headers["Authorization"] = f"Basic {pair}"
        case Bearer(scheme=scheme):
            request.headers["Authorization"] = f"{scheme} {key}"
        case ApiKeyBody(field=name):
            request.body = _with_field(request, name, key)
        case Cookie(name=name):
            request.headers["Cookie"] = f"{name}={key}"
        case _:
            pass


def _with_field(request: Outgoing, name: str, key: str) -> bytes:
    sent = PageRequest(request.url, request.body, form="form" in request.headers.get("content-type", ""))
    try:
        signed = sent.having([(name, key)]).body if request.body else None
    except (ValueError, TypeError, LookupError, AttributeError):
        signed = None
    if signed is not None:
        return signed
    raise AttemptFailed(
        f"the key is sent at {name!r} of the body, and there is no such place",
        "declare a body= of the endpoint, or send the key elsewhere: ApiKeyHeader, ApiKeyQuery",
        kind=ConfigurationError,
    )


def _with_query(url: httpx.URL, parameter: str, value: str) -> httpx.URL:
    # An existing copy of the key is replaced, not duplicated.
    kept = without_parameter(url, parameter).query.decode("ascii")
    signed = f"{quote(parameter, safe='')}={quote(value, safe='')}"
    return url.copy_with(query=(f"{kept}&{signed}" if kept else signed).encode("ascii"))
