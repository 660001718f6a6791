"""What an answer that is no page means, and what it asks of us."""

import re
import ssl
from datetime import UTC, datetime

import httpx

from flows.kinds.api.declared.api import Api, NoAuth
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.quota import pause_asked
from flows.values.errors import (
    ConfigurationError,
    MedallionError,
    PlaceLost,
    RateLimited,
    SourceError,
    SourceUnavailable,
)

# 52x are a content network's own words for "the server behind me does not answer".
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 531)})
# Nine digits are 31 years; more is nonsense, and int() refuses over 4,300 digits with an error of its own.
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class AttemptFailed(Exception):
    """One try gave no page. Stays inside this room; `error` is what others see.

    `again` says whether the same request may be sent once more, `slow_down` that the API asked for patience, and
    `retry_after` for how many seconds, if it said.
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
    ) -> None:
        self.what = what
        self.fix = fix
        self.kind = kind
        self.again = again
        self.slow_down = slow_down
        self.retry_after = retry_after
        super().__init__(what)

    def error(self, where: str, attempts: int) -> MedallionError:
        """The error for people. `attempts` were made."""
        tries = f", after {attempts} attempts" if attempts > 1 else ""
        return self.kind(
            self.what + tries,
            where=where,
            fix=self.fix,
            retryable=issubclass(self.kind, SourceUnavailable),
        )

    def rate_limited(self, where: str, wait: float, waited: float, budget: float) -> RateLimited:
        """The error when `wait` more seconds would go beyond the read's budget."""
        error = RateLimited(
            f"{self.what}; it asks us to wait {wait:.0f} s, and this read may wait {budget:.0f} s in all "
            f"({waited:.0f} s are spent)",
            where=where,
            fix=f"run again in {wait:.0f} s or later: what is published stays, and the cursor goes on from it",
            retryable=True,
        )
        error.retry_after = wait
        return error


def refused(response: httpx.Response, request_line: str, api: Api) -> AttemptFailed:
    """Read a status other than 200 and redirects. `request_line` is like "GET /v1/coupons": no query, no host."""
    status = response.status_code
    wait = retry_after(response.headers)
    if wait is None and status == 429:
        wait = pause_asked(response.headers) or None
    what = f"{status} from {request_line}"
    declared = f"flows/sources/{api.name}.py"
    # Some APIs say 403 where 429 is meant; Retry-After gives them away.
    if status in _MAY_PASS or (status == 403 and wait is not None):
        return AttemptFailed(
            what,
            "the API is overloaded or down: run again later, or ask who runs it",
            kind=SourceUnavailable,
            again=True,
            slow_down=status == 429 or wait is not None,
            retry_after=wait,
        )
    if status in (401, 403):
        return AttemptFailed(what, _key_move(status, api, declared), kind=ConfigurationError)
    if status == 410:
        return AttemptFailed(
            f"{what}: the list, or our place in it, is gone",
            "run again: a new run starts from the last published cursor, not from the expired page; "
            f"if the first page says so too, the path in {declared} is retired",
            kind=PlaceLost,
        )
    moves = {
        204: f"the API has no body where a list was declared; check the path in {declared}",
        400: f"the API does not accept the query; check params, page size and cursor in {declared}",
        404: f"check the path in {declared} and the base URL in {url_variable(api)}",
        405: f"check the method and path declared in {declared}",
        407: "the proxy between wants a credential; check the proxy's address in the environment",
        406: f"the API does not offer JSON at this path; check it in {declared}",
        414: f"the query is too long for the API; shorten params in {declared}",
        422: f"the API does not accept the query; check params, page size and cursor in {declared}",
        431: f"the headers are too long for the API; check the key in {key_variable(api)}",
        511: "a network login page stands between us and the API; check the proxy",
    }
    return AttemptFailed(what, moves.get(status, f"compare {declared} with the API's documentation"))


def unreachable(error: httpx.HTTPError, request_line: str, api: Api) -> AttemptFailed:
    """Read an error of the connection. Its text is not repeated: it may quote headers."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLCertVerificationError):
            return AttemptFailed(
                f"the certificate shown to {request_line} is not trusted",
                f"check the host in {url_variable(api)}; for a private authority set SSL_CERT_FILE",
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
        move = f"check that the API runs and that {url_variable(api)} names its host and port"
    else:
        what = f"the connection broke during {request_line} ({type(error).__name__})"
        move = "run again later; if it stays, ask who runs the API or the network between"
    return AttemptFailed(what, move, kind=SourceUnavailable, again=True)


def too_slow(request_line: str, deadline: float) -> AttemptFailed:
    """An answer that was not complete when its time was over."""
    return AttemptFailed(
        f"{request_line} was not answered whole within {deadline:g} s",
        "run again later; if pages are that slow by nature, declare a smaller page_size",
        kind=SourceUnavailable,
        again=True,
    )


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that a Retry-After header asks for; None without one that can be read (RFC 9110, section 10.2.3).

    A date is measured against the answer's own Date header, so that a wrong clock on either side does no harm.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = http_date(value)
    if until is None:
        return None
    now = http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def key_variable(api: Api) -> str:
    """The environment variable that holds the API's key."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_KEY"


def user_variable(api: Api) -> str:
    """The environment variable that holds the user or client id that goes with the key."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_USER"


def url_variable(api: Api) -> str:
    """The environment variable that holds the API's base URL."""
    return f"MEDALLION_SOURCE_{api.connection.upper()}_URL"


def _key_move(status: int, api: Api, declared: str) -> str:
    if isinstance(api.auth, NoAuth):
        return f"the API wants a credential and {declared} declares none: add auth= and set {key_variable(api)}"
    holder = f"{key_variable(api)} (or the block source-{api.connection})"
    if status == 401:
        return f"the API does not know the key: check {holder}, and the kind of auth in {declared}"
    return f"the key may not read this: ask for the right, or check {holder}"
