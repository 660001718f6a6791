"""The request for the first page of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.http.request import PageRequest, check_place, encoded, encoded_form
from flows.values.errors import DeclarationError


def first_request(
    api: Api, endpoint: Endpoint, base: httpx.URL, since: str | None, etag: str | None, of: Mapping[str, str]
) -> PageRequest:
    """The first page's request: of the changes `since`, unless the list still has the `etag`.

    `of` are the parent's keys in the path.

    Raises:
        AttemptFailed: the declared body has no place for a parameter.
        DeclarationError: `since` of an endpoint without a cursor.
    """
    path = endpoint.path
    for name, value in of.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    url = httpx.URL(str(base).rstrip("/") + path)
    if endpoint.params:
        url = url.copy_merge_params(list(endpoint.params))
    request = PageRequest(url, _body(endpoint), etag, form=endpoint.form)
    if isinstance(endpoint.body, str):
        request = replace(request, text=endpoint.body_type)
    if endpoint.format is not None:
        request = replace(request, accept="*/*")
    values: list[tuple[str, str | int]] = []
    if endpoint.page_size is not None:
        values.append((endpoint.page_size_parameter, endpoint.page_size))
    pagination = api.pagination_of(endpoint)
    if isinstance(pagination, PageNumber | Offset):
        values.append((pagination.parameter, pagination.first))
    if since is not None:
        values.append(_changes(api, endpoint, since))
    if isinstance(endpoint.body, Mapping) and not endpoint.form:
        for name, _ in values:
            check_place(endpoint.body, name)
    return request.having(values)


def _body(endpoint: Endpoint) -> bytes | None:
    # With a job, the body is that of the request that creates it.
    if endpoint.body is None or endpoint.job is not None:
        return None
    if isinstance(endpoint.body, str):
        return endpoint.body.encode()
    return encoded_form(endpoint.body) if endpoint.form else encoded(endpoint.body)


def _changes(api: Api, endpoint: Endpoint, since: str) -> tuple[str, str]:
    match endpoint.cursor:
        case Since(parameter=parameter, prefix=prefix):
            return parameter, prefix + since
        case ChangeToken(parameter=parameter):
            return parameter, since
    raise DeclarationError(
        "a start was given for an endpoint without a cursor",
        where=f"{api.name}.{endpoint.name}",
        fix=f'add cursor=Since("…", field="…") in flows/sources/{api.name}.py, or read the full list',
    )
