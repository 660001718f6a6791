"""Signs in a response that its list goes on, whatever pagination is declared.

They never lead to a next page. They contradict a declaration that takes the response for the last one: a path that is
misspelled, or another pagination than the API's. Without them, ten of fifty records would count as all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import msgspec

from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.json_walk import Absent, kind_of
from flows.kinds.api.http.link_header import MalformedLink, parse_links
from flows.values.json_path import parse_path

# Names without case and punctuation: `next_page_token`, `nextPageToken` and `NextPageToken` are one.
_NEXT = frozenset(
    [
        "next",
        "nexturl",
        "nexturi",
        "nexthref",
        "nextlink",
        "nextpage",
        "nextpageurl",
        "nextpagelink",
        "nextpagetoken",
        "nextpagecursor",
        "nexttoken",
        "nextcursor",
        "nextoffset",
        "nextmarker",
        "nextstart",
        "nextstartat",
        "nextrecordsurl",
        "nextkey",
        "odatanextlink",
        "continuationtoken",
        "continuation",
    ]
)
_MORE = frozenset(
    [
        "hasmore",
        "hasnext",
        "hasnextpage",
        "more",
        "moreavailable",
        "hasmoreresults",
        "hasmoreitems",
        "hasmorepages",
        "istruncated",
    ]
)
_LAST = frozenset(["islast", "islastpage", "lastpage", "last", "done", "isdone", "endofstream"])
_PAGES = frozenset(["pages", "totalpages", "pagecount", "lastpage"])
_TOTALS = frozenset(
    [
        "total",
        "count",
        "totalcount",
        "totalresults",
        "totalsize",
        "totalrecords",
        "totalitems",
        "totalelements",
        "rowcount",
        "numfound",
    ]
)
_URLS = frozenset(["href", "url", "uri", "link"])
_ELSEWHERE = frozenset(["self", "first", "last", "prev", "previous", "href", "url", "uri"])
_PUNCTUATION = re.compile(r"[^a-z0-9]")


def more_in(answer: Answer, seen: int | None, pages: int, known: str | None = None) -> str | None:
    """Where the response says that its list goes on; None if it does not.

    `known`: the path of a value that is declared to be something else: a token of changes.
    `seen`: the records of the list so far, to be compared with a total; None if a total may count something else.
    `pages`: its pages so far.
    """
    for field in answer.headers.get_list("link"):
        try:
            links = parse_links(field)
        except MalformedLink:
            continue
        if any("next" in link.relations and not link.anchor for link in links):
            return 'rel="next" in the Link header'
    try:
        return next((path for path in _in_body(answer, seen, pages) if path != repr(known)), None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _in_body(answer: Answer, seen: int | None, pages: int) -> Iterator[str]:
    for path, parent, name, value in answer.document.around():
        plain, above, kind = _plain(name), _plain(parent), kind_of(value)
        if kind in ("object", "list"):
            continue
        told = bytes(value) if len(value) < 5000 else b""
        is_next = plain in _NEXT or (above in _NEXT and plain in _URLS)
        number = int(told) if kind == "number" and told.isdigit() and len(told) < 18 else 0
        is_token = (kind == "text" and told not in (b'""', b"")) or number > 0
        is_named = plain in _ELSEWHERE or above in _ELSEWHERE
        is_page = kind == "text" and not is_named and _is_other_page(answer, told)
        says = (
            (is_next and is_token)
            or is_page
            or (plain in _MORE and told in (b"true", b'"true"'))
            or (plain in _LAST and told in (b"false", b'"false"'))
            or (seen is not None and ((plain in _PAGES and number > pages) or (plain in _TOTALS and number > seen)))
        )
        if says:
            yield repr(path)
    for name in ("link", "links"):
        try:
            found = answer.document.at(parse_path(f"{name}[relation=next]"))
        except Absent:
            try:
                found = answer.document.at(parse_path(f"{name}[rel=next]"))
            except Absent:
                continue
        fields = msgspec.json.decode(found)
        if any(fields.get(field) for field in _URLS):
            yield f"{name!r}"


def _is_other_page(answer: Answer, told: bytes) -> bool:
    """Whether a text is the URL of the same list with another query."""
    if b"?" not in told:
        return False
    try:
        url = answer.url.join(msgspec.json.decode(told))
    except (httpx.InvalidURL, msgspec.DecodeError, ValueError, TypeError):
        return False
    return url.path == answer.url.path and url.query != answer.url.query and url.host == answer.url.host


def _plain(name: str) -> str:
    return _PUNCTUATION.sub("", name.lower())
