"""Pagination styles of APIs, each with a sample response and its end condition.

Parameters are sent in the query of a GET, or in the JSON `body` if the endpoint has one; dots in their names address
nested fields of the body (`variables.after`).
"""

from dataclasses import dataclass
from typing import Protocol

from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path, position


@dataclass(frozen=True, slots=True)
class SinglePage:
    """A single response without pagination. One that says that the list goes on is refused.

    SinglePage(first=True)      only the first page is wanted, as of a ranking, so nothing is ever marked as deleted
    """

    first: bool = False


@dataclass(frozen=True, slots=True)
class PageNumber:
    """Pages are numbered.

        GET /v1/orders?page=3&per_page=100
        {"data": [ … ], "total": 2311, "pages": 24}

    Ends at the first page without records. A short page does not end pagination: servers cap pages and filter them.
    When the declared `total` has been read, or page `pages` (a path in the body), one more page is requested: totals
    may be capped. `past_end` is the status of an API that responds with an error instead of an empty page.
    `empty_pages`: the API filters after it has cut the list into pages, so that a page before the last may be empty;
    then `pages`, `past_end`, `more`, `last`, an answer that is declared to be the end, or `total` with `page_size` says
    where the list ends.

    `more` is the path of a boolean that says whether there is a next page, `last` of one that says that there is none;
    what contradicts `total` or `pages` is an error. `short_ends`: a page with fewer records than `page_size` is the
    last one; only for APIs that neither cap pages nor filter them. `most`: no more than so many pages are wanted;
    nothing is ever marked as deleted by a list that is longer.

        PageNumber()                          ?page=1, 2, 3 …
        PageNumber(last="isLast")
        PageNumber(short_ends=True)
        PageNumber("p", first=0, pages="meta.pages")
        PageNumber(past_end=404)
        PageNumber(pages="pages", empty_pages=True)
    """

    parameter: str = "page"
    first: int = 1
    pages: str | None = None
    past_end: int | None = None
    empty_pages: bool = False
    more: str | None = None
    last: str | None = None
    short_ends: bool = False
    most: int | None = None

    def __post_init__(self) -> None:
        parse_path(self.pages or "")
        _check_end(self)


@dataclass(frozen=True, slots=True)
class Offset:
    """Pagination by the number of records to skip.

        GET /v1/orders?offset=200&limit=100
        {"data": [ … ], "total": 2311}

    Ends at the first page without a record beyond the requested overlap, or with the status `past_end`. When the
    declared `total` has been read, one more page is requested: totals may be capped.

    A list shifts while it is read: if an earlier record is deleted, all later ones move up, and one of them is skipped
    between two pages. Each page therefore requests the last `overlap` records of the previous one; if none of them
    is returned, reading steps back until one is. `overlap=0` is for lists that cannot shift, such as reports.
    `empty_pages`: the API filters after it has cut the list into pages, so that a page before the last may be empty;
    needs `overlap=0`, `total` and `page_size`. `more`, `last`, `short_ends`, `most`: as for `PageNumber`.
    """

    parameter: str = "offset"
    first: int = 0
    overlap: int = 1
    past_end: int | None = None
    empty_pages: bool = False
    more: str | None = None
    last: str | None = None
    short_ends: bool = False
    most: int | None = None

    def __post_init__(self) -> None:
        _check_end(self)
        if self.empty_pages and self.overlap:
            raise DeclarationError(
                "pages that the API filters have no records to overlap by",
                where="pagination",
                fix="write Offset(overlap=0, empty_pages=True)",
            )
        if self.overlap < 0 or self.first < 0:
            raise DeclarationError(
                "an offset and its overlap must be at least 0", where="pagination", fix="write 0 or more records"
            )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The body contains a token for the next page.

        GET /v1/orders?starting_after=o_98
        {"data": [ … ], "paging": {"next": "o_198"}, "has_more": true}

    Ends when the token is absent, null, empty or false, when `more` (a path in the body) is false, or `last` true.
    `more` without a token, or neither true nor false, contradicts itself and is an error. `at` may be in the last
    record, `-1`; then a page without records ends the list as well. A token that is a list needs a `body`.
    `empty_pages`: the API filters after it has cut the list into pages, so that more than twenty pages in a row may be
    empty, up to a thousand; for all styles with a token or link.

        Cursor("starting_after", at="paging.next", more="has_more")
        Cursor("starting_after", at="data.-1.id", more="has_more")     the last record's id, as Stripe
        Cursor("search_after", at="hits.hits.-1.sort")                 its values in a list, as Elasticsearch
        Cursor("cursor", at="after_cursor", last="end_of_stream")      as Zendesk
        Cursor("variables.after", at="data.orders.pageInfo.endCursor", more="data.orders.pageInfo.hasNextPage")
    """

    parameter: str
    at: str
    more: str | None = None
    last: str | None = None
    empty_pages: bool = False

    @property
    def is_of_a_record(self) -> bool:
        """Whether the token is a value of a record: where there are records, there must be one."""
        return any(isinstance(step, str) and (position(step) or 0) < 0 for step in parse_path(self.at))

    def __post_init__(self) -> None:
        parse_path(self.at)
        _check_end(self)


@dataclass(frozen=True, slots=True)
class NextUrl:
    """The body contains the next page's URL, absolute or relative.

        {"data": [ … ], "links": {"next": "https://api.example.com/v1/orders?after=abc"}}
        {"resourceType": "Bundle", "entry": [ … ], "link": [{"relation": "next", "url": "https://…"}]}

    Ends when the URL is absent, null or empty, or by `more` and `last`, as for `Cursor`.

        NextUrl("links.next")
        NextUrl("link[relation=next].url")    a FHIR Bundle
        NextUrl('"@odata.nextLink"')          OData: quotes around a field whose name has a dot
        NextUrl("after_url", last="end_of_stream")
    """

    at: str = "next"
    more: str | None = None
    last: str | None = None
    empty_pages: bool = False

    def __post_init__(self) -> None:
        parse_path(self.at)
        _check_end(self)


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The response's `Link` header (RFC 8288) has the next page, with rel="next".

        HTTP/1.1 200 OK
        Link: <https://api.example.com/v1/orders?limit=100&after=abc>; rel="next"

    Ends when the header, or that relation, is absent.
    """

    rel: str = "next"
    empty_pages: bool = False


@dataclass(frozen=True, slots=True)
class NextHeader:
    """A custom header contains the next page's URL, or a token for it.

        HTTP/1.1 200 OK
        Next-Page: https://api.example.com/v1/orders?_token=abc

    Ends when the header is absent or empty.

        NextHeader("Next-Page")                            a URL
        NextHeader("X-Next-Token", parameter="token")      a token, which the next request sends back
        NextHeader("Sforce-Locator", parameter="locator", last="null")   a text that marks the last page
    """

    header: str = "Next-Page"
    parameter: str | None = None
    last: str = ""
    empty_pages: bool = False


Pagination = SinglePage | PageNumber | Offset | Cursor | NextUrl | LinkHeader | NextHeader


def _check_end(style: "PageNumber | Offset | Cursor | NextUrl") -> None:
    parse_path(style.more or "")
    parse_path(style.last or "")
    if style.more and style.last:
        raise DeclarationError(
            "more and last say the same", where="pagination", fix="declare the one that the API sends"
        )
    if isinstance(style, Cursor | NextUrl):
        return
    if style.short_ends and style.empty_pages:
        raise DeclarationError(
            "an empty page is a short one, and cannot be both in the middle and the end",
            where="pagination",
            fix="remove short_ends or empty_pages",
        )
    if style.most is not None and style.most < 1:
        raise DeclarationError("most must be at least 1", where="pagination", fix="write a number of pages")


class Paged(Protocol):
    """What an endpoint declares besides its pagination."""

    @property
    def only(self) -> str | None:
        """Excludes records."""

    @property
    def total(self) -> str | None:
        """The path of the number of records."""

    @property
    def page_size(self) -> int | None:
        """The number of records per page."""

    @property
    def shrinks(self) -> bool:
        """Whether a page may be requested with fewer records."""

    @property
    def ends_by_answer(self) -> bool:
        """Whether an answer is declared to be the end of the list."""


def check_pagination(pagination: Pagination, endpoint: "Paged", where: str) -> None:
    """Refuse options that contradict the pagination.

    Raises:
        DeclarationError: `only` with a pagination that counts records, or an overlap of a full page.
    """
    if endpoint.only is not None and isinstance(pagination, PageNumber | Offset):
        raise DeclarationError(
            "only= cannot be combined with a pagination that counts records",
            where=where,
            fix="remove only=, and filter these records in staging",
        )
    if isinstance(pagination, Offset):
        _check_offset(pagination, endpoint, where)
    if endpoint.shrinks and not takes_other_sizes(pagination):
        raise DeclarationError(
            "pages of another size have other numbers, short ones would end a list, or are only its beginning",
            where=where,
            fix='remove then="smaller", or declare Offset()',
        )
    if isinstance(pagination, PageNumber | Offset) and pagination.short_ends and endpoint.page_size is None:
        raise DeclarationError(
            "nothing says how long a page is that is not short", where=where, fix="declare page_size"
        )
    if isinstance(pagination, PageNumber | Offset) and pagination.empty_pages:
        ends = (endpoint.total is not None and endpoint.page_size is not None) or bool(
            pagination.more or pagination.last
        )
        if isinstance(pagination, PageNumber):
            ends = ends or pagination.pages is not None or pagination.past_end is not None
        if not ends and not endpoint.ends_by_answer:
            raise DeclarationError(
                "with empty pages in between, nothing says where the list ends",
                where=where,
                fix="declare total and page_size, more or last, or with page numbers pages or past_end",
            )


def takes_other_sizes(pagination: Pagination) -> bool:
    """Whether a list may be read on behind a page that was requested with fewer records."""
    counts = isinstance(pagination, Offset) and (pagination.empty_pages or pagination.short_ends)
    return not counts and not isinstance(pagination, PageNumber | SinglePage)


def _check_offset(pagination: Offset, endpoint: "Paged", where: str) -> None:
    """Refuse an overlap that leaves no room for new records."""
    if endpoint.page_size is not None and pagination.overlap >= endpoint.page_size:
        raise DeclarationError(
            f"an overlap of {pagination.overlap} covers a full page of {endpoint.page_size}",
            where=where,
            fix="declare larger pages, or a smaller overlap",
        )
