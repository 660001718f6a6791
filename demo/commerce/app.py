"""The API itself: GET /v1/{endpoint} with pagination, an API key, a rate limit, and occasional failures.

`limit` (100, at most 500) bounds a page, `updated_since` (ISO 8601) the records. Pages follow each other by the Link
header, rel="next" (RFC 8288); its cursor is the last record's position, so records that change meanwhile are neither
lost nor repeated out of turn.
"""

import base64
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.commerce.day import day_stamp, read_day
from demo.commerce.rate import TokenBucket
from demo.commerce.records import Collection, Position, collections_of

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 500


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


@dataclass
class Shown:
    """The records of the day that is set; built again when the day changes."""

    state: Path
    _stamp: tuple[int, int, int] | None = field(init=False)
    _collections: Mapping[str, Collection] = field(init=False)

    def __post_init__(self) -> None:
        self._stamp = day_stamp(self.state)
        self._collections = collections_of(read_day(self.state))

    def collection(self, endpoint: str) -> Collection | None:
        """The endpoint's records, or None when there is no such endpoint."""
        stamp = day_stamp(self.state)
        if stamp != self._stamp:
            self._stamp, self._collections = stamp, collections_of(read_day(self.state))
        return self._collections.get(endpoint)


def create_app(api_key: str, state: Path, bucket: TokenBucket, fail_every: int = 41) -> Starlette:
    """The API for callers that send `api_key` as X-API-Key; every `fail_every`-th request is a 503, none with 0."""
    shown = Shown(state)
    served = 0

    def admit(request: Request) -> None:
        nonlocal served
        key = request.headers.get("x-api-key", "")
        if not hmac.compare_digest(key.encode(), api_key.encode()):
            raise _Refused(401, "unauthorized", "send your key in the header X-API-Key", {"WWW-Authenticate": "ApiKey"})
        if wait := bucket.take():
            seconds = math.ceil(wait)
            raise _Refused(429, "rate_limited", f"wait {seconds} s", {"Retry-After": str(seconds)})
        served += 1
        if fail_every and served % fail_every == 0:
            raise _Refused(503, "unavailable", "try again")

    async def list_records(request: Request) -> Response:
        try:
            admit(request)
            collection = shown.collection(request.path_params["endpoint"])
            if collection is None:
                raise _Refused(404, "not_found", "there is no such endpoint")
            return _page(request, collection)
        except _Refused as refused:
            body = {"error": {"code": refused.code, "message": refused.message}}
            return _json(msgspec.json.encode(body), refused.status, refused.headers)

    async def healthy(request: Request) -> Response:
        return _json(b'{"status":"ok"}')

    return Starlette(routes=[Route("/healthz", healthy), Route("/v1/{endpoint}", list_records)])


def _page(request: Request, collection: Collection) -> Response:
    limit = _limit(request.query_params.get("limit"))
    first = collection.since(_moment(request.query_params.get("updated_since")))
    total = len(collection.positions) - first
    if (cursor := request.query_params.get("cursor")) is not None:
        first = max(first, _after(collection, cursor))
    bodies = collection.bodies[first : first + limit]
    headers = {}
    if first + limit < len(collection.bodies):
        following = encode_cursor(collection.positions[first + limit - 1])
        headers["Link"] = f'<{request.url.include_query_params(cursor=following)}>; rel="next"'
    return _json(b'{"data":[' + b",".join(bodies) + b'],"meta":{"total":%d}}' % total, headers=headers)


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise _Refused(400, "bad_limit", f"limit must be an integer from 1 to {_MAX_LIMIT}")
    return min(int(text), _MAX_LIMIT)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Refused(
            400, "bad_updated_since", "updated_since must be a timestamp such as 2017-12-31T00:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def encode_cursor(position: Position) -> str:
    """A position as text that callers hand back unread."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _after(collection: Collection, cursor: str) -> int:
    """The place of the first record after the cursor's position. Raises _Refused for a cursor not made here."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = Position(*msgspec.json.decode(text, type=tuple[int, int | str]))
        if collection.positions and type(position.identity) is not type(collection.positions[0].identity):
            raise ValueError("a cursor of another endpoint")
        return collection.after(position)
    except ValueError:  # also what base64 and msgspec raise
        raise _Refused(400, "bad_cursor", "follow the Link header as it was sent") from None


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
