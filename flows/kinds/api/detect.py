"""Detect a declaration from an API's response: paths of records and total, pagination, key. A guess for a person to
review; loads never use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from flows.kinds.api.http.link_header import MalformedLink, parse_links
from flows.values.json_path import joined, parse_path

_TOTALS = ("total", "count", "total_count", "totalCount", "rowCount", "total_results", "totalResults", "totalSize")
_PAGES = ("pages", "total_pages", "totalPages", "last_page", "lastPage", "page_count", "pageCount")
_NEXT_URLS = ("next", "next_url", "nextUrl", "nextLink", "@odata.nextLink", "next_page_url", "next_page")
_TOKENS = {
    "next_cursor": "cursor",
    "nextCursor": "cursor",
    "next_page_token": "page_token",  # nosec B105 - a parameter's name
    "nextPageToken": "pageToken",
    "next_token": "next_token",  # nosec B105 - a parameter's name
    "nextToken": "nextToken",
    "endCursor": "after",
    "continuation_token": "continuation_token",  # nosec B105 - a parameter's name
}
_KEYS = ("id", "uuid", "_id", "key", "guid", "gid", "number", "code")
_CHANGED = (
    "updated_at",
    "updatedAt",
    "modified_at",
    "modifiedAt",
    "last_modified",
    "lastModified",
    "updated",
    "modified",
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Detected:
    """Paths and texts as in a declaration. `pagination` is Python; `cursor_field` is a candidate for the cursor."""

    records: str
    total: str | None
    pagination: str
    key: str
    key_type: str
    cursor_field: str | None
    found: Sequence[Mapping[str, Any]]


def detect(content: bytes, headers: httpx.Headers) -> Detected:
    """Analyse the first page of a list."""
    document = json.loads(content, parse_float=str)
    path, records = _list_in(document)
    places = dict(_scalars(document))
    key, key_type = _key_of(records)
    return Detected(
        records=path,
        total=_first(places, _TOTALS, lambda value: isinstance(value, int) and not isinstance(value, bool)),
        pagination=_pagination(document, places, headers),
        key=key,
        key_type=key_type,
        cursor_field=_changed(records),
        found=records,
    )


def _list_in(document: Any) -> tuple[str, list[dict[str, Any]]]:
    """The longest list of objects; of a FHIR Bundle, the resources of its entries."""
    if isinstance(document, dict) and document.get("resourceType") == "Bundle":
        entries = document.get("entry") or []
        return "entry[].resource", [entry["resource"] for entry in entries if isinstance(entry.get("resource"), dict)]
    lists = list(_lists(document, "", 0))
    if not lists:
        return ("" if isinstance(document, list) else "data"), []
    path, found = max(lists, key=lambda pair: (len(pair[1]), -pair[0].count(".")))
    return path, found


def _lists(value: Any, path: str, depth: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    if isinstance(value, list):
        if value and all(isinstance(element, dict) for element in value):
            yield path, value
    elif isinstance(value, dict) and depth < _DEEPEST:
        for name, inner in _named(value):
            yield from _lists(inner, joined(path, name), depth + 1)


def _named(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that a path can name: not those with quotes of both kinds, or without a name."""
    return ((name, inner) for name, inner in value.items() if name and not ('"' in name and "'" in name))


def _scalars(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values around the list, by path."""
    if isinstance(value, dict) and depth < _DEEPEST:
        for name, inner in _named(value):
            yield from _scalars(inner, joined(path, name), depth + 1)
    elif not isinstance(value, list | dict):
        yield path, value


def _first(places: Mapping[str, Any], names: Sequence[str], fits: Any) -> str | None:
    for name in names:
        for path, value in places.items():
            if path and parse_path(path)[-1] == name and fits(value):
                return path
    return None


def _pagination(document: Any, places: Mapping[str, Any], headers: httpx.Headers) -> str:
    if any("next" in link.relations for field in headers.get_list("link") for link in _links(field)):
        return "LinkHeader()"
    if headers.get("next-page", "").startswith(("http", "/")):
        return 'NextHeader("Next-Page")'
    links = document.get("link") if isinstance(document, dict) else None
    if isinstance(links, list) and any(isinstance(link, dict) and link.get("relation") == "next" for link in links):
        return 'NextUrl("link[relation=next].url")'
    if path := _first(
        places, _NEXT_URLS, lambda value: isinstance(value, str) and value.startswith(("http", "/", "?"))
    ):
        return f"NextUrl({python_text(path)})"
    for name, parameter in _TOKENS.items():
        if path := _first(places, (name,), lambda value: isinstance(value, str | int) and value):
            return f'Cursor("{parameter}", at={python_text(path)})'
    if path := _first(places, _PAGES, lambda value: isinstance(value, int)):
        return f'PageNumber("page", pages={python_text(path)})'
    if _first(places, ("offset", "skip", "start"), lambda value: isinstance(value, int)) is not None:
        return 'Offset("offset")'
    return "SinglePage()"


def python_text(text: str) -> str:
    """The text as Python, in double quotes if it has none itself."""
    return repr(text) if '"' in text or "\\" in text else f'"{text}"'


def _links(field: str) -> Sequence[Any]:
    try:
        return parse_links(field)
    except MalformedLink:
        return ()


def _key_of(records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A field that every record has with a distinct value; the usual names first."""
    names = [*_KEYS, *(name for name in (records[0] if records else {}) if name.endswith(("_id", "Id")))]
    for name in names:
        values = [record.get(name) for record in records]
        if values and all(isinstance(value, str | int) for value in values) and len(set(values)) == len(values):
            if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
                return name, "bigint"
            return name, "uuid" if all(_UUID.fullmatch(str(value)) for value in values) else "text"
    return "id", "text"


def _changed(records: Sequence[Mapping[str, Any]]) -> str | None:
    if not records:
        return None
    for name in _CHANGED:
        if name in records[0]:
            return name
    meta = records[0].get("meta")
    return "meta.lastUpdated" if isinstance(meta, dict) and "lastUpdated" in meta else None
