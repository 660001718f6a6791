"""Requests for pages of an API."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import httpx

from flows.kinds.api.http.failure import AttemptFailed
from flows.values.json_path import Step, parse_path

Value = str | int | list[object]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One request: its URL, its body if any (then it is a POST), and a known ETag.

    `beyond`: statuses that mean that there is no such page, since the request looks behind the expected end of a list.
    `form`: the body is a form, not JSON; `text`: it is a text of that type. `accept`: the media type to request, if it
    is not JSON. `at_store`: it is for an object store, whose URL is itself a secret. `more`: declared headers.
    """

    url: httpx.URL
    body: bytes | None = None
    etag: str | None = None
    beyond: frozenset[int] = frozenset()
    form: bool = False
    text: str = ""
    accept: str = ""
    at_store: bool = False
    more: tuple[tuple[str, str], ...] = ()

    @property
    def method(self) -> str:
        """GET, or POST with a body."""
        return "GET" if self.body is None else "POST"

    @property
    def line(self) -> str:
        """`GET /v1/items`: as sent, so still escaped, since a decoded path could split a log line. No query."""
        if self.at_store:
            return f"{self.method} of a document at {self.url.host}"
        return f"{self.method} {self.url.raw_path.partition(b'?')[0].decode('ascii')}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers in addition to the client's own."""
        form = "application/x-www-form-urlencoded"
        kind = self.text or (form if self.form else "application/json")
        headers = dict(self.more) if self.body is None else {"Content-Type": kind, **dict(self.more)}
        if self.accept:
            headers["Accept"] = self.accept
        return headers if self.etag is None else headers | {"If-None-Match": self.etag}

    @property
    def identity(self) -> tuple[bytes, ...]:
        """The identity of the page."""
        return str(self.url.copy_with(fragment=None)).encode(), self.body or b""

    def having(self, values: Sequence[tuple[str, Value]]) -> PageRequest:
        """A copy with these parameters set: in the body if there is one, by dotted names; else in the query."""
        if not values:
            return self
        if self.body is None or self.text:
            # Existing parameters keep their bytes and order; only those named here are replaced.
            texts = [(name, str(value)) for name, value in values]
            return replace(self, url=_with_params(self.url, texts))
        if self.form:
            names = {name for name, _ in values}
            fields = [pair for pair in parse_qsl(self.body.decode(), keep_blank_values=True) if pair[0] not in names]
            return replace(self, body=urlencode([*fields, *values]).encode())
        document = json.loads(self.body)
        for name, value in values:
            _place(document, parse_path(name), value)
        return replace(self, body=encoded(document))

    def at(self, url: httpx.URL) -> PageRequest:
        """A copy with another URL."""
        return replace(self, url=url, etag=None)


def encoded(body: Mapping[str, Any]) -> bytes:
    """The JSON body as sent."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def encoded_form(fields: Mapping[str, Any]) -> bytes:
    """The form as sent: a list is a field that occurs several times."""
    return urlencode(fields, doseq=True).encode()


def without_parameter(url: httpx.URL, name: str) -> httpx.URL:
    """The URL without a parameter; the rest of its query is unchanged byte for byte: a page cursor may be signed."""
    query = url.query.decode("ascii")
    kept = _without(query, name)
    return url if kept == query else url.copy_with(query=kept.encode("ascii") or None)


def text_without_parameter(url: str, name: str) -> str:
    """As `without_parameter`, of a URL that may be relative."""
    path, mark, query = url.partition("?")
    query, hash_, fragment = query.partition("#")
    return path + (mark + kept if (kept := _without(query, name)) else "") + hash_ + fragment


def _without(query: str, name: str) -> str:
    """A query without a parameter, however an API that echoes it escapes it, capitalises it, or separates it."""
    kept = ""
    pieces = re.split("([&;])", query)
    for separator, pair in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        if unquote_plus(pair.partition("=")[0]).casefold() == name.casefold():
            continue
        kept += (separator if kept else "") + pair
    return kept


def _with_params(url: httpx.URL, values: Sequence[tuple[str, str]]) -> httpx.URL:
    known = {name for name, _ in url.params.multi_items()}
    if any(name in known for name, _ in values):
        names = {name for name, _ in values}
        kept = [(name, value) for name, value in url.params.multi_items() if name not in names]
        return url.copy_with(params=[*kept, *values])
    return url.copy_merge_params(list(values))


def _place(document: Any, steps: Sequence[Step], value: Value) -> None:
    *way, last = steps
    here = document
    for step in way:
        here = here[int(str(step))] if isinstance(here, list) else here.setdefault(str(step), {})
    if isinstance(here, list):
        here[int(str(last))] = value
    else:
        here[str(last)] = value


def check_place(body: Mapping[str, Any], name: str) -> None:
    """Refuse a parameter that has no place in the declared body.

    Raises:
        AttemptFailed: its path leads through a value that is neither object nor list.
    """
    try:
        _place(copy.deepcopy(dict(body)), parse_path(name), "")
    except (IndexError, ValueError, AttributeError, TypeError):
        failed = True
    else:
        failed = False
    if failed:
        raise AttemptFailed(
            f"the declared body has no place for {name!r}",
            "correct the parameter or the body: dots address fields of objects, numbers address elements of lists",
        )
