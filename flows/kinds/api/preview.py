"""Preview of an API before anything is written: first records, pagination, and a drafted declaration."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flows.kinds.answers import Preview
from flows.kinds.api import Api, Cursor, Endpoint, LinkHeader, NextHeader, NextUrl, Offset, PageNumber, SinglePage
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.pagination import Pagination
from flows.kinds.api.detect import Detected, detect, python_text
from flows.kinds.api.fields import RecordFields
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.pages.endpoint import open_reader
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, MedallionError, SourceError

# Interactive: fail soon if the API does not respond.
_LIMITS = HttpLimits(max_attempts=2, wait_budget_seconds=10, request_seconds=30)
_PAGE_PARAMETERS = {"page", "offset", "cursor", "after", "page_token", "pageToken", "start", "skip"}

_STYLES: dict[str, Any] = {
    style.__name__: style for style in (Cursor, LinkHeader, NextHeader, NextUrl, Offset, PageNumber, SinglePage)
}


async def preview_endpoint(source: Api, endpoint: Endpoint, connection: ApiConnection, count: int = 5) -> Preview:
    """Two requests for the first page. Nothing is written anywhere.

    Raises:
        DeclarationError: the endpoint needs a parent's key.
        MedallionError: as a load's.
    """
    if endpoint.parent is not None:
        raise DeclarationError(
            "its path needs a key of its parent",
            where=f"{source.name}.{endpoint.name}",
            fix=f"preview {source.name}.{endpoint.parent.endpoint}, or load both",
        )
    if endpoint.job is not None:
        raise DeclarationError(
            "a preview would start a job",
            where=f"{source.name}.{endpoint.name}",
            fix="load it; its records are in the raw table",
        )
    if endpoint.format is not None:
        return await _preview_document(source, endpoint, connection, count)
    async with open_reader(source, endpoint, connection, limits=_LIMITS) as reader:
        content, headers = await reader.peek()
        page = await anext(reader.pages(side_by_side=False))
    found = detect(content, headers)
    total = "" if page.total is None else f"{page.total:,}"
    facts = [
        ("records on the first page", str(len(page.records)), f"{len(found.found)} at {found.records or 'the root'!r}"),
        ("total", total, f"at {found.total!r}" if found.total else ""),
        ("pagination", repr(source.pagination_of(endpoint)), found.pagination),
        ("key", _key(endpoint), f"{found.key} ({found.key_type})"),
        ("cursor", repr(endpoint.cursor) if endpoint.cursor else "", found.cursor_field or ""),
    ]
    return Preview(page.records[:count], _fields(page.records), facts)


async def _preview_document(source: Api, endpoint: Endpoint, connection: ApiConnection, count: int) -> Preview:
    """The first records of a document that is not JSON, from one request."""
    async with (
        open_reader(source, endpoint, connection, limits=_LIMITS) as reader,
        contextlib.aclosing(reader.pages(side_by_side=False)) as pages,
    ):
        page = await anext(pages)
    facts = [
        ("format", repr(endpoint.format), ""),
        ("records read", str(len(page.records)), "" if page.place is None else "more follow"),
        ("pagination", repr(source.pagination_of(endpoint)), ""),
        ("key", _key(endpoint), ""),
    ]
    return Preview(page.records[:count], _fields(page.records), facts)


def _key(endpoint: Endpoint) -> str:
    return ", ".join(
        f"{field.name} ({field.type})" + ("" if field.at == field.name else f" at {field.at!r}")
        for field in endpoint.key_fields
    )


def _fields(records: Sequence[bytes]) -> dict[str, str]:
    fields = RecordFields({}, first=True)
    fields.look(records)
    return {name: " or ".join(sorted(kinds)) or "null" for name, kinds in fields.known.items()}


async def draft_api(name: str, url: str, auth: Auth, key: str | None, user: str | None) -> tuple[str, Detected]:
    """A declaration, as Python, drafted from a URL's response; two pages are read with it before it is shown.

    Raises:
        SourceError: the response has no list of records.
        MedallionError: as a load's.
    """
    parts = urlsplit(url)
    params = tuple((n, v) for n, v in parse_qsl(parts.query, keep_blank_values=True) if n not in _PAGE_PARAMETERS)
    base = f"{parts.scheme}://{parts.netloc}"
    endpoint = Endpoint("draft", path=parts.path or "/", params=params, records="", pagination=SinglePage())
    api = Api(name, connection=name, endpoints=[endpoint], auth=auth)
    connection = ApiConnection(name, base, key, user)
    async with open_reader(api, endpoint, connection, limits=_LIMITS) as reader:
        content, headers = await reader.peek()
    found = detect(content, headers)
    if not found.found:
        raise SourceError(
            "the response contains no list of records to draft from",
            where=f"GET {parts.path}",
            fix="pass the URL of a list that is not empty",
        )
    doubts = await _tried(api, endpoint, connection, found)
    return _declaration(name, parts.path or "/", params, auth, found, doubts), found


async def _tried(api: Api, drafted: Endpoint, connection: ApiConnection, found: Detected) -> str | None:
    """Read the first two pages as drafted: why that did not work, or None."""
    pagination = _pagination(found.pagination)
    endpoint = replace(drafted, records=found.records, total=found.total, pagination=pagination)
    endpoint = replace(endpoint, may_be_absent=found.records.startswith("entry[]"))
    seen = list[bytes]()
    try:
        async with (
            open_reader(api, endpoint, connection, limits=_LIMITS) as reader,
            contextlib.aclosing(reader.pages(side_by_side=False)) as pages,
        ):
            async for page in pages:
                if page.number == 2 and page.records and set(page.records) <= set(seen):
                    return "the second page has the records of the first one"
                seen += page.records
                if page.number == 2 or page.place is None:
                    return None
    except MedallionError as problem:
        return " ".join(problem.what.split())
    return None


def _pagination(written: str) -> Pagination:
    """The pagination that `detect` has written as Python."""
    call = ast.parse(written, mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    values = [ast.literal_eval(value) for value in call.args]
    named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    style: Pagination = _STYLES[call.func.id](*values, **named)
    return style


def _declaration(
    name: str, path: str, params: tuple[tuple[str, str], ...], auth: Auth, found: Detected, doubts: str | None
) -> str:
    endpoint = "".join(part if part.isalnum() else "_" for part in path.rstrip("/").rpartition("/")[2].lower())
    endpoint = endpoint.strip("_").removesuffix("_json") or "items"
    style = found.pagination.partition("(")[0]
    kinds = sorted({"Api", type(auth).__name__, "Endpoint", style, *({"Since"} if found.cursor_field else set())})
    lines = [
        f'"""The source {name}."""',
        "",
        f"from flows.kinds.api import {', '.join(kinds)}",
        "",
        f"{name} = Api(",
        f'    "{name}",',
        f'    connection="{name}",',
        f"    auth={_written(auth)},",
        *(
            [f"    # Tried, and it does not work: {doubts}. Check it against the API's documentation."]
            if doubts
            else []
        ),
        f"    pagination={found.pagination},",
        '    schedule="25 * * * *",',
        "    endpoints=[",
        "        Endpoint(",
        f'            "{endpoint}",',
        f'            path="{path}",',
        *([f"            params={params!r},".replace("'", '"')] if params else []),
        *([f"            records={python_text(found.records)},"] if found.records != "data" else []),
        *(["            may_be_absent=True,"] if found.records.startswith("entry[]") else []),
        *([f"            key={python_text(found.key)},"] if found.key != "id" else []),
        *([f'            key_type="{found.key_type}",'] if found.key_type != "text" else []),
        *([f"            total={python_text(found.total)},"] if found.total else []),
    ]
    if found.cursor_field:
        lines += [
            "            # The parameter's name is in the API's documentation, not in its responses.",
            f'            cursor=Since("updated_since", field="{found.cursor_field}", lag="10 min"),',
        ]
    return "\n".join([*lines, "        )", "    ],", ")", ""])


def _written(auth: Auth) -> str:
    return repr(auth).replace("'", '"')
