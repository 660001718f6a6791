"""Failed responses: their meaning, and how to handle them."""

import re
import ssl
from datetime import UTC, datetime

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.sent import NoAuth
from flows.kinds.api.declared.tokens import SeveralKeys
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.quota import pause_asked
from flows.values.errors import (
    ConfigurationError,
    ListUnfinished,
    MedallionError,
    PlaceLost,
    RateLimited,
    SourceError,
    SourceUnavailable,
)

# 52x are a CDN's codes for "the origin does not respond".
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 531)})
# Nine digits are 31 years; more is invalid, and int() raises for more than 4,300 digits.
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-retry-after-ms")


class WindowTooLong(ListUnfinished):
    """A query for a window of time has more results than the API returns."""


class AttemptFailed(Exception):
    """One attempt got no page. Internal to this package; others see `error`.

    `again`: whether the same request may be sent again; `slow_down`: the API limited the rate; `retry_after`: the
    requested seconds, if any; `status`: that of the response, if it is the failure; `code`: the name of a token
    server's error.
    """

    def __init__(
        self,
        what: str,
        fix: str,
        *,
        kind: type[MedallionError] = SourceError,
        again: bool = False,
        slow_down: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        self.what = what
        self.fix = fix
        self.kind = kind
        self.again = again
        self.slow_down = slow_down
        self.retry_after = retry_after
        self.status = status
        self.code = ""
        super().__init__(what)

    def error(self, where: str, attempts: int) -> MedallionError:
        """The error for users, after so many `attempts`."""
        tries = f", after {attempts} attempts" if attempts > 1 else ""
        error = self.kind(
            self.what + tries,
            where=where,
            fix=self.fix,
            retryable=issubclass(self.kind, SourceUnavailable),
        )
        error.__dict__["status"] = self.status
        return error

    def rate_limited(self, where: str, wait: float, waited: float, budget: float) -> RateLimited:
        """The error if `wait` more seconds would exceed the read's budget."""
        error = RateLimited(
            f"{self.what}; it requests a wait of {wait:.0f} s, and this read may wait {budget:.0f} s in total "
            f"({waited:.0f} s are used)",
            where=where,
            fix=f"run again in {wait:.0f} s or later: published records are kept, and the run resumes from the cursor",
            retryable=True,
        )
        error.retry_after = wait
        return error

    def rate_limited_above(self, where: str, wait: float, ceiling: float) -> RateLimited:
        """The error if the API requests a wait that is longer than any read may wait, or than anybody would."""
        error = RateLimited(
            f"{self.what}; it requests a wait of {wait / 3600:,.0f} h, and the ceiling is {ceiling / 3600:,.0f} h",
            where=where,
            fix=f"run again in {ceiling / 3600:,.0f} h; if the wait makes no sense, report the header to the API's "
            "operator: published records are kept, and the run resumes from there",
            retryable=True,
        )
        error.retry_after = ceiling
        return error


class PageTooLarge(AttemptFailed):
    """The page may be requested with fewer records."""


def refused(response: httpx.Response, request_line: str, api: Api) -> AttemptFailed:
    """Interpret a status other than 200 and redirects. `request_line` is like "GET /v1/coupons": no query, no host."""
    status = response.status_code
    wait = retry_after(response.headers)
    if wait is None and status == 429:
        wait = pause_asked(response.headers) or None
    what = f"{status} from {request_line}"
    declared = f"flows/sources/{api.name}.py"
    # Some APIs send 403 instead of 429; Retry-After reveals it.
    if status in _MAY_PASS or (status == 403 and wait is not None):
        return AttemptFailed(
            what,
            "the API is overloaded or down: run again later, or ask its operator",
            kind=SourceUnavailable,
            again=True,
            slow_down=status == 429 or wait is not None,
            retry_after=wait,
            status=status,
        )
    if status in (401, 403):
        return AttemptFailed(what, _key_move(status, api, declared), kind=ConfigurationError, status=status)
    if status == 410:
        return AttemptFailed(
            f"{what}: the list, or the position in it, no longer exists",
            "run again: a new run starts from the last published cursor, not from the expired page; "
            f"if the first page returns the same, the path in {declared} is retired",
            kind=PlaceLost,
            status=status,
        )
    moves = {
        204: f"the API sent no body, and a list is declared; check the path in {declared}",
        400: f"the API does not accept the query; check params, page size and cursor in {declared}",
        404: f"check the path in {declared} and the base URL in {url_variable(api)}",
        405: f"check the method and path declared in {declared}",
        407: "the proxy in between requires a credential; check the proxy's URL in the environment",
        406: f"the API does not offer JSON at this path; check it in {declared}",
        414: f"the query is too long for the API; shorten params in {declared}",
        422: f"the API does not accept the query; check params, page size and cursor in {declared}",
        431: f"the headers are too long for the API; check the key in {key_variable(api)}",
        511: "a network login page intercepts the API; check the proxy",
    }
    return AttemptFailed(what, moves.get(status, f"compare {declared} with the API's documentation"), status=status)


def expired(response: httpx.Response, request_line: str) -> AttemptFailed:
    """A store refuses a presigned URL. The next attempt requests another one."""
    return AttemptFailed(
        f"{response.status_code} from {request_line}: its URL is not valid, or not any more",
        "run again; if it persists, ask the operator of the API",
        kind=SourceUnavailable,
        again=True,
        status=response.status_code,
    )


def unreachable(error: httpx.HTTPError, request_line: str, api: Api) -> AttemptFailed:
    """Interpret a connection error. Its text is not repeated: it may quote headers."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLCertVerificationError):
            return AttemptFailed(
                f"the certificate presented to {request_line} is not trusted",
                f"check the host in {url_variable(api)}; for a private CA set SSL_CERT_FILE",
                kind=ConfigurationError,
            )
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return AttemptFailed(
            f"{request_line} cannot be sent ({type(error).__name__})",
            f"check auth and params in flows/sources/{api.name}.py, and {url_variable(api)}",
            kind=ConfigurationError,
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        what = f"no connection for {request_line} ({type(error).__name__})"
        move = f"check that the API is up and that {url_variable(api)} names its host and port"
    else:
        what = f"the connection broke during {request_line} ({type(error).__name__})"
        move = "run again later; if it persists, ask the operator of the API or of the network in between"
    return AttemptFailed(what, move, kind=SourceUnavailable, again=True)


def too_slow(request_line: str, deadline: float) -> AttemptFailed:
    """A response that was not complete at its deadline."""
    return AttemptFailed(
        f"{request_line} was not answered completely within {deadline:g} s",
        "run again later; if pages are always that slow, declare a smaller page_size",
        kind=SourceUnavailable,
        again=True,
    )


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds requested by a Retry-After header; None if it is missing or invalid (RFC 9110, section 10.2.3).

    Some APIs send milliseconds beside it, as `Retry-After-Ms`, which are more exact.

    A date is compared with the response's own Date header, so that wrong clocks do not matter.
    """
    for name in _MILLISECONDS:
        if _SECONDS.fullmatch(value := headers.get(name, "").strip()):
            return float(value) / 1000
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = http_date(value)
    if until is None:
        return None
    now = http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def key_variable(api: Api) -> str:
    """The environment variable of the API's key."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_KEY"


def user_variable(api: Api) -> str:
    """The environment variable of the key's user or client id."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_USER"


def token_variable(api: Api) -> str:
    """The environment variable of the first refresh token."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_TOKEN"


def certificate_variable(api: Api) -> str:
    """The environment variable of the client certificate."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_CERTIFICATE"


def url_variable(api: Api) -> str:
    """The environment variable of the API's base URL."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_URL"


def _key_move(status: int, api: Api, declared: str) -> str:
    if isinstance(api.auth, NoAuth):
        return f"the API requires a credential and {declared} declares none: add auth= and set {key_variable(api)}"
    holder = f"{key_variable(api)} (or the block source-{api.connection})"
    if isinstance(api.auth, SeveralKeys):
        problem = "rejects each of the keys" if status == 401 else "lets none of the keys read this"
        return f"the API {problem}: check all of {holder}, and the kind of auth in {declared}"
    if status == 401:
        return f"the API rejects the key: check {holder}, and the kind of auth in {declared}"
    return f"the key lacks the permission to read this: request it, or check {holder}"
