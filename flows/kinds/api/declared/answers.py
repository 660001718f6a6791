"""What an answer of an API means, if it is not what its status says."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError
from flows.values.json_path import Step, parse_path

Then = Literal["accept", "retry", "smaller", "halve", "ignore", "end", "skip", "restart", "fail"]
_THEN = get_args(Then)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_QUOTED = re.compile(r""""[^"]*"|'[^']*'|\[[^\]]*\]""")


@dataclass(frozen=True, slots=True)
class When:
    """An answer, by status, header, body or text (all that are given), and what it means.

        When(status=202, then="retry", after="5 s")                  the report is not ready
        When(body="error=ratelimited", then="retry", after_header="X-Wait")
        When(body="errors.*.type=RATE_LIMITED", then="retry")        any of the errors; * is every element
        When(status=400, text="past the last page", then="end")      the list ends here
        When(body="isLast=true", then="end")                         the list ends behind this page
        When(status=403, then="skip")                                this parent has no list for us
        When(body="ok=false", then="fail", fix="add the scope channels:history to the app")

    A condition of `header` and `body` is `name` (there, and not null, false or empty), `name=value` or `name!=value`;
    `text` is a part of the body. The first condition that holds decides; without any, the status and the body do.

        accept    a page, whatever its status, and whatever it says of errors
        retry     the same request again, after `after`, or what a header or the body says: seconds or a time
        smaller   the same page with half of the records, down to one
        halve     the window of time is halved, as by its `cap`; both halves are read from their beginning
        ignore    a page without records; the list goes on if the next page can be known, and shows no deletes
        end       the end of the list; the records of a page that has some count
        skip      the parent or partition has no list: its records in raw stay as they are
        restart   the position is lost: the list is read from the last stored cursor
        fail      an error that a retry cannot help; `fix` is what the error says
    """

    status: int | tuple[int, ...] | None = None
    header: str | None = None
    body: str | None = None
    text: str | None = None
    then: Then = "fail"
    after: str = ""
    after_header: str = ""
    after_body: str = ""
    fix: str = ""

    @property
    def needs_body(self) -> bool:
        """Whether the body decides."""
        return self.body is not None or bool(self.text)

    def __post_init__(self) -> None:
        where = f"When(then={self.then!r})"
        if self.then not in _THEN:
            raise DeclarationError(f"{self.then!r} is unknown", where=where, fix=f"use {', '.join(_THEN)}")
        if self.status is None and not self.header and not self.body and not self.text:
            raise DeclarationError(
                "no answer is described", where=where, fix="write status=, header=, body= or text=, such as status=404"
            )
        if any(not 100 <= status <= 599 or status == 304 for status in statuses(self.status)):
            raise DeclarationError(
                "the status is not that of an answer", where=where, fix="write 100 to 599; etag=True handles 304"
            )
        if self.header and not _HEADER.fullmatch(condition(self.header)[0]):
            raise DeclarationError(
                f"{self.header!r} is no header", where=where, fix='write header="X-State" or header="X-State=pending"'
            )
        if self.body is not None:
            body_condition(self.body)
        given = [wait for wait in (self.after, self.after_header, self.after_body) if wait]
        if len(given) > 1 or (given and self.then != "retry"):
            raise DeclarationError(
                "one wait is possible, before a retry", where=where, fix='write then="retry", after="5 s"'
            )
        if self.after:
            parse_duration(self.after, where)
        parse_path(self.after_body)


def statuses(status: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The declared statuses as a tuple."""
    return () if status is None else status if isinstance(status, tuple) else (status,)


def condition(text: str) -> tuple[str, bool, str | None]:
    """Name, whether it must be equal, and value: `("ok", True, "false")` of `ok=false`; no value: it must be there."""
    # An = in quotes or brackets belongs to the path.
    plain = _QUOTED.sub(lambda found: "_" * len(found[0]), text)
    at = plain.find("=")
    if at < 0:
        return text.strip(), True, None
    equal = not plain[:at].endswith("!")
    return text[: at if equal else at - 1].strip(), equal, text[at + 1 :].strip()


def body_condition(text: str) -> tuple[tuple[Step, ...], bool, str | None]:
    """As `condition`, with the path's steps.

    Raises:
        DeclarationError: the path is invalid.
    """
    path, equal, value = condition(text)
    return parse_path(path, many=True), equal, value
