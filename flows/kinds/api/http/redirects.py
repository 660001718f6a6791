"""Redirects of an API: within it, or to a declared store without credentials."""

from __future__ import annotations

from dataclasses import replace

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.http.auth import query_parameter
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.link_header import require_origin
from flows.kinds.api.http.request import PageRequest, without_parameter
from flows.kinds.api.http.stores import is_store, store_url


def redirected(request: PageRequest, response: httpx.Response, api: Api, base: httpx.URL) -> PageRequest:
    """The request that a redirect asks for.

    Raises:
        AttemptFailed: it leads elsewhere, or would drop the body.
    """
    # An invalid URL has already failed inside httpx.
    target = request.url.join(response.headers["location"])
    parameter = query_parameter(api.auth)
    if request.body is None and (request.at_store or is_store(target, api.stores)):
        target = store_url(str(target), request.url, api.stores, f"the redirect from {request.line}")
        return PageRequest(target, accept=request.accept, at_store=True)
    require_origin(target, base, f"the redirect ({response.status_code}) from {request.line}")
    if request.body is not None and response.status_code not in (307, 308):
        raise AttemptFailed(
            f"a redirect ({response.status_code}) from {request.line} would drop the body",
            f"declare the final URL's path in flows/sources/{api.name}.py",
        )
    # A key that the API sends back would be in the log of requests; the signer adds it below that log.
    return replace(request, url=target if parameter is None else without_parameter(target, parameter))
