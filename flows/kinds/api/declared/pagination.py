"""Pagination styles of APIs, each with a sample response and its end condition.

Parameters are sent in the query of a GET, or in the JSON `body` if the endpoint has one; dots in their names address
nested fields of the body (`variables.after`).
"""

from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path


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
    then `pages`, `past_end`, or `total` with `page_size` says where the list ends.

        PageNumber()                          ?page=1, 2, 3 …
        PageNumber("p", first=0, pages="meta.pages")
        PageNumber(past_end=404)
        PageNumber(pages="pages", empty_pages=True)
    """

    parameter: str = "page"
    first: int = 1
    pages: str | None = None
    past_end: int | None = None
    empty_pages: bool = False

    def __post_init__(self) -> None:
        parse_path(self.pages or "")


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
    needs `overlap=0`, `total` and `page_size`.
    """

    parameter: str = "offset"
    first: int = 0
    overlap: int = 1
    past_end: int | None = None
    empty_pages: bool = False

    def __post_init__(self) -> None:
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

    Ends when the token is absent, null, empty or false, or when `more` (a path in the body) is false. `more` without a
    token, or neither true nor false, contradicts itself and is an error.

        Cursor("starting_after", at="paging.next", more="has_more")
        Cursor("variables.after", at="data.orders.pageInfo.endCursor", more="data.orders.pageInfo.hasNextPage")
    """

    parameter: str
    at: str
    more: str | None = None

    def __post_init__(self) -> None:
        parse_path(self.at)
        parse_path(self.more or "")


@dataclass(frozen=True, slots=True)
class NextUrl:
    """The body contains the next page's URL, absolute or relative.

        {"data": [ … ], "links": {"next": "https://api.example.com/v1/orders?after=abc"}}
        {"resourceType": "Bundle", "entry": [ … ], "link": [{"relation": "next", "url": "https://…"}]}

    Ends when the URL is absent, null or empty.

        NextUrl("links.next")
        NextUrl("link[relation=next].url")    a FHIR Bundle
        NextUrl('"@odata.nextLink"')          OData: quotes around a field whose name has a dot
    """

    at: str = "next"

    def __post_init__(self) -> None:
        parse_path(self.at)


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The response's `Link` header (RFC 8288) has the next page, with rel="next".

        HTTP/1.1 200 OK
        Link: <https://api.example.com/v1/orders?limit=100&after=abc>; rel="next"

    Ends when the header, or that relation, is absent.
    """

    rel: str = "next"


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


Pagination = SinglePage | PageNumber | Offset | Cursor | NextUrl | LinkHeader | NextHeader
