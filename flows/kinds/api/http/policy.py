"""The declared meanings of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import msgspec

from flows.declare.duration import parse_duration
from flows.kinds.api.declared.answers import When, body_condition, condition, statuses
from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import takes_other_sizes
from flows.kinds.api.http.body import Body, head_of, read_body
from flows.kinds.api.http.failure import AttemptFailed, PageTooLarge, WindowTooLong
from flows.kinds.api.http.json_walk import Absent, Document, kind_of
from flows.kinds.api.http.quota import pause_in
from flows.values.errors import PlaceLost, SourceError, SourceUnavailable
from flows.values.json_path import parse_path

# So much of a document is looked at; a message, and not data, is shorter.
_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
_TEXT = msgspec.json.Decoder(str)
_NOTHING = frozenset(b'null false "" [] {}'.split(b" "))


class Answered:
    """A response with what it is declared to mean: `rule`, and the `body` if it has been read to find that out.

    Of a large document only the `head` has been read; `pieces` are all of it, as received.
    """

    def __init__(self, response: httpx.Response, rule: When | None = None, body: Body | None = None) -> None:
        self.response, self.rule, self.body = response, rule, body
        self.head = b"" if body is None else body.content
        self.pieces: AsyncIterator[bytes] | None = None
        self._document: Document | None = None

    @property
    def then(self) -> str:
        """What it means; empty if nothing is declared."""
        return "" if self.rule is None else self.rule.then

    @property
    def document(self) -> Document:
        """The body as JSON; an empty object if it is none."""
        if self._document is None:
            try:
                self._document = Document(b"{}" if self.body is None else self.body.content)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._document = Document(b"{}")
        return self._document

    def holds(self, rule: When) -> bool:
        """Whether all that the rule says of an answer is true of this one."""
        headers = self.response.headers
        if rule.status is not None and self.response.status_code not in statuses(rule.status):
            return False
        if rule.header is not None:
            name, equal, value = condition(rule.header)
            sent = headers.get(name, "").strip()
            if not (sent if value is None else sent and (sent == value) == equal):
                return False
        if rule.text and rule.text.encode() not in self.head:
            return False
        return rule.body is None or self._says(rule.body)

    def _says(self, declared: str) -> bool:
        steps, equal, value = body_condition(declared)
        try:
            found = self.document.each(steps, partly=True)
        except (Absent, msgspec.DecodeError, UnicodeDecodeError):
            return False
        if value is None:
            return any(len(one) > 8 or bytes(one) not in _NOTHING for one in found)
        return any((_written(one) == value) == equal for one in found)

    def refuse(self, request_line: str) -> None:
        """Raise what the rule says of the request.

        Raises:
            AttemptFailed: it is to be sent again, or has failed.
        """
        rule = self.rule
        if rule is None or rule.then not in ("retry", "smaller", "halve", "restart", "fail"):
            return
        status = self.response.status_code
        what = f"{status} from {request_line}, which is declared as {rule.then!r}"
        if rule.then == "retry":
            wait = self._wait(rule)
            raise AttemptFailed(
                what,
                rule.fix or "run again later, or ask the operator of the API",
                kind=SourceUnavailable,
                again=True,
                slow_down=wait is not None,
                retry_after=wait,
                status=status,
            )
        if rule.then == "smaller":
            fix = "declare a smaller page_size; a page of one record was refused as well"
            raise PageTooLarge(what, rule.fix or fix, status=status)
        if rule.then == "halve":
            fix = "let the cursor's parameter be more exact with sent= and digits=, or declare partitions"
            raise AttemptFailed(what, rule.fix or fix, kind=WindowTooLong, status=status)
        if rule.then == "restart":
            fix = "run again: a new run starts from the last published cursor"
            raise AttemptFailed(what, rule.fix or fix, kind=PlaceLost, status=status)
        fix = "compare the response with the API's documentation, and with answers= of the declaration"
        raise AttemptFailed(what, rule.fix or fix, kind=SourceError, status=status)

    def _wait(self, rule: When) -> float | None:
        """Seconds until the request may be sent again; None if nothing says so, or the time has passed."""
        if rule.after:
            return parse_duration(rule.after, "answers").total_seconds()
        headers = self.response.headers
        value = headers.get(rule.after_header or "retry-after", "").strip()
        if rule.after_body:
            try:
                value = str(self.document.token(parse_path(rule.after_body)) or "")
            except Absent:
                value = ""
        return pause_in(value, headers) or None


def rules_of(api: Api, endpoint: Endpoint) -> tuple[When, ...]:
    """The rules for answers of an endpoint: its own, then the API's.

    Those of the API that this endpoint cannot follow are failures: it would lose records, or count as an empty list.
    """
    refused: dict[str, str] = {}
    if endpoint.parent is None and not endpoint.partitions:
        refused["skip"] = "it is declared to be skipped, and this endpoint has neither a parent nor partitions"
    if endpoint.properties is not None:
        refused["smaller"] = "declare a smaller page_size: the parts of a page have one size"
    if not takes_other_sizes(api.pagination_of(endpoint)):
        refused["smaller"] = "declare Offset(), a token or a link of this endpoint: its pages cannot be made smaller"
    if not endpoint.is_divided:
        refused["halve"] = "declare the rule in answers= of this endpoint, with until= and begin= of its cursor"
    rules = (*endpoint.answers, *api.answers)
    return tuple(
        replace(rule, then="fail", fix=rule.fix or refused[rule.then]) if rule.then in refused else rule
        for rule in rules
    )


async def answered_by(
    response: httpx.Response, rules: Sequence[When], cap: int, *, of_document: bool = False
) -> Answered:
    """The response with the first rule that holds. Its body is read only if one may decide by it.

    `of_document`: it may be larger than any page. Texts are looked for in its beginning; what is large is no JSON that
    says what an answer means.

    Raises:
        AttemptFailed: the body is truncated, corrupt or too large.
        httpx.HTTPError: the connection broke.
    """
    first = Answered(response)
    for rule in rules:
        if not rule.needs_body and first.holds(rule):
            return Answered(response, rule)
        if rule.needs_body and (rule.status is None or response.status_code in statuses(rule.status)):
            break
    else:
        return first
    pieces = response.aiter_raw(_PIECE_BYTES)
    if of_document:
        begun, has_ended = await _begun(pieces)
        pieces = _rest(begun, pieces)
        if not has_ended:
            first.head, first.pieces = head_of(b"".join(begun), response.headers, _HEAD_BYTES), pieces
            first.rule = next((rule for rule in rules if first.holds(rule)), None)
            return first
    try:
        body = await read_body(response, cap, any_media=True, pieces=pieces)
    except AttemptFailed:
        if response.status_code == httpx.codes.OK:
            raise
        body = None  # the status says enough
    whole = Answered(response, body=body)
    whole.rule = next((rule for rule in rules if whole.holds(rule)), None)
    return whole


async def _begun(pieces: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
    """The first pieces, as many as are looked at, and whether these are all."""
    begun, size = list[bytes](), 0
    async for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > _HEAD_BYTES:
            return begun, False
    return begun, True


async def _rest(begun: list[bytes], pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All pieces, those that have been read first."""
    while begun:
        yield begun.pop(0)
    async for piece in pieces:
        yield piece


def _written(value: memoryview) -> str:
    return _TEXT.decode(value) if kind_of(value) == "text" else bytes(value[:1000]).decode(errors="replace")
