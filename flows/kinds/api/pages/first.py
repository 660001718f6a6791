"""The request for the first page of a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.headers import Headers
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.declared.parts import Partition, Requested, Several, filled, filled_params
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.link_header import require_origin
from flows.kinds.api.http.request import PageRequest, Value, check_place, encoded, encoded_form
from flows.kinds.api.pages.page import Start
from flows.values.errors import DeclarationError

_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")


def first_request(
    api: Api,
    endpoint: Endpoint,
    base: httpx.URL,
    start: Start,
    of: Mapping[str, Requested],
) -> PageRequest:
    """The first page's request: of the changes since the `start`, and until its end, unless the list has its ETag.

    `of` are values of the parent, and of partitions, by name.

    Raises:
        AttemptFailed: the declared body has no place for a parameter, or a header cannot have a value.
        DeclarationError: a start of an endpoint without a cursor.
    """
    if isinstance(endpoint.cursor, ChangeToken) and not endpoint.cursor.parameter and start.since is not None:
        url = base.join(start.since)
        require_origin(url, base, "the link to the changes")
        return PageRequest(url, _body(endpoint, of), more=headers_of(endpoint, of))
    path = endpoint.path
    for name, value in of.items():
        keys, between = (value, value.separator) if isinstance(value, Several) else ((value,), "")
        path = path.replace(f"{{{name}}}", quote(between, safe=",;+").join(quote(str(key), safe="") for key in keys))
    url = httpx.URL(str(base).rstrip("/") + path)
    if endpoint.params:
        url = url.copy_merge_params(filled_params(endpoint.params, of))
    request = PageRequest(url, _body(endpoint, of), start.etag, form=endpoint.form, more=headers_of(endpoint, of))
    if isinstance(endpoint.body, str):
        request = replace(request, text=endpoint.body_type)
    if endpoint.format is not None:
        request = replace(request, accept="*/*")
    values: list[tuple[str, Value]] = []
    if endpoint.page_size is not None:
        values.append((endpoint.page_size_parameter, endpoint.page_size))
    pagination = api.pagination_of(endpoint)
    if isinstance(pagination, PageNumber | Offset):
        values.append((pagination.parameter, pagination.first))
    values += _changes(api, endpoint, start)
    if isinstance(endpoint.body, Mapping) and not endpoint.form:
        for name in (*(name for name, _ in values), *([endpoint.properties.parameter] if endpoint.properties else ())):
            check_place(endpoint.body, name)
    return request.having(values)


def headers_of(endpoint: Endpoint, of: Mapping[str, Requested]) -> Headers:
    """The endpoint's headers, with values of the parent or of partitions.

    Raises:
        AttemptFailed: a header cannot have such a value.
    """
    headers = tuple((name, str(filled(value, of))) for name, value in endpoint.headers)
    for name, value in headers:
        if not _VALUE.fullmatch(value):
            raise AttemptFailed(
                f"the value of the header {name} has a line break, a space at an end or a character outside ASCII",
                "check headers= of the endpoint; a value of the parent belongs in a parameter or in the body",
            )
    return headers


def _body(endpoint: Endpoint, of: Mapping[str, Requested]) -> bytes | None:
    # With a job, the body is that of the request that creates it.
    if endpoint.body is None or endpoint.job is not None:
        return None
    body: Any = filled(endpoint.body, of)
    if isinstance(body, str):
        return body.encode()
    return encoded_form(body) if endpoint.form else encoded(body)


def values_of(partitions: Sequence[Partition], combination: Sequence[str]) -> dict[str, str | int]:
    """The values of partitions by name; numbers as such."""
    return {
        part.name: int(value) if part.type == "bigint" else value
        for part, value in zip(partitions, combination, strict=True)
    }


def _changes(api: Api, endpoint: Endpoint, start: Start) -> list[tuple[str, str]]:
    match endpoint.cursor:
        case Since() as cursor:
            ends = ((cursor.parameter, start.since or cursor.begin or None), (cursor.until, start.until))
            return [(name, cursor.written(value)) for name, value in ends if name and value is not None]
        case ChangeToken(parameter=parameter):
            return [] if start.since is None else [(parameter, start.since)]
    if start.since is None:
        return []
    raise DeclarationError(
        "a start was given for an endpoint without a cursor",
        where=f"{api.name}.{endpoint.name}",
        fix=f'add cursor=Since("…", field="…") in flows/sources/{api.name}.py, or read the full list',
    )
