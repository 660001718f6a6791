"""The ways in which an API hands out a list piece by piece, each with an answer it fits and where it ends.

A GET sends what a style adds in the query; an endpoint with a JSON `body` sends it there, by the same names with dots
for places within the body (`variables.after`).
"""

from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path


@dataclass(frozen=True, slots=True)
class SinglePage:
    """One answer holds everything."""


@dataclass(frozen=True, slots=True)
class PageNumber:
    """Pages are numbered.

        GET /v1/orders?page=3&per_page=100
        {"data": [ … ], "total": 2311, "pages": 24}

    Ends when the declared `total` has been read, at page `pages` (a path in the body), or at the first page without
    records. A page with fewer records than asked for is no end: servers cap pages and filter them. `past_end` is the
    status of an API that answers an error where an empty page would stand.

        PageNumber()                          ?page=1, 2, 3 …
        PageNumber("p", first=0, pages="meta.pages")
        PageNumber(past_end=404)
    """

    parameter: str = "page"
    first: int = 1
    pages: str | None = None
    past_end: int | None = None

    def __post_init__(self) -> None:
        parse_path(self.pages or "")


@dataclass(frozen=True, slots=True)
class Offset:
    """A number says how many records to step over.

        GET /v1/orders?offset=200&limit=100
        {"data": [ … ], "total": 2311}

    Ends when the declared `total` has been read, or at the first page that brings no record beyond those it was to
    repeat.

    A list shifts while it is read: a record deleted in front moves all others up, and one of them slips past the edge
    of two pages. Each page therefore asks for the last `overlap` records of the one before; where none of them comes
    again, reading steps back until one does. `overlap=0` is for lists that cannot shift, such as computed reports.
    """

    parameter: str = "offset"
    first: int = 0
    overlap: int = 1

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.first < 0:
            raise DeclarationError(
                "an offset or its overlap is below 0", where="pagination", fix="write 0 or more records"
            )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The body holds a token for the next page.

        GET /v1/orders?starting_after=o_98
        {"data": [ … ], "paging": {"next": "o_198"}, "has_more": true}

    Ends when the token is absent, null, empty or false, or when `more` (a path in the body) is not true.

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
    """The body holds the next page's address, whole or relative.

        {"data": [ … ], "links": {"next": "https://api.example.com/v1/orders?after=abc"}}
        {"resourceType": "Bundle", "entry": [ … ], "link": [{"relation": "next", "url": "https://…"}]}

    Ends when the address is absent, null or empty.

        NextUrl("links.next")
        NextUrl("link[relation=next].url")    a FHIR Bundle
    """

    at: str = "next"

    def __post_init__(self) -> None:
        parse_path(self.at)


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The next page stands in the answer's `Link` header (RFC 8288), with rel="next".

        HTTP/1.1 200 OK
        Link: <https://api.example.com/v1/orders?limit=100&after=abc>; rel="next"

    Paging ends when the header, or that relation, is absent.
    """

    rel: str = "next"


@dataclass(frozen=True, slots=True)
class NextHeader:
    """A header of its own holds the next page's address, or a token for it.

        HTTP/1.1 200 OK
        Next-Page: https://api.example.com/v1/orders?_token=abc

    Ends when the header is absent or empty.

        NextHeader("Next-Page")                            an address
        NextHeader("X-Next-Token", parameter="token")      a token, which the next request sends back
    """

    header: str = "Next-Page"
    parameter: str | None = None


Pagination = SinglePage | PageNumber | Offset | Cursor | NextUrl | LinkHeader | NextHeader
