"""What an endpoint's declaration must not contradict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flows.declare.load import Merge, Replace
from flows.kinds.api.declared.answers import condition
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.pagination import check_pagination
from flows.kinds.api.declared.parts import placeholders_in
from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path, plain_steps

if TYPE_CHECKING:
    from flows.kinds.api.declared.endpoint import Endpoint


def check_load(endpoint: Endpoint, where: str) -> None:
    """Refuse a load that its cursor, parent or partitions contradict."""
    if not isinstance(endpoint.load, Merge | Replace):
        raise DeclarationError(
            "an append is not supported for APIs, because pages may repeat records, which are merged by key",
            where=where,
            fix="use load=Merge() or load=Replace()",
        )
    if isinstance(endpoint.load, Replace) and endpoint.cursor is not None:
        raise DeclarationError(
            "a replace reads the full list, so a cursor would never be used",
            where=where,
            fix="remove the cursor, or use load=Merge()",
        )
    if isinstance(endpoint.load, Replace) and endpoint.parent is not None and not endpoint.parent.every:
        raise DeclarationError(
            "a replace needs every record, but only the children of changed parents are fetched",
            where=where,
            fix="use load=Merge(), or Parent(…, every=True)",
        )
    _check_parts(endpoint, where)


def _check_parts(endpoint: Endpoint, where: str) -> None:
    named = {part.name for part in endpoint.partitions}
    of_parent = set(endpoint.placeholders) - named
    if (endpoint.parent is None and of_parent & set(placeholders_in(endpoint.path))) or (
        endpoint.parent and not of_parent
    ):
        raise DeclarationError(
            "a path with {…} needs a parent, and a parent needs a path with {…}",
            where=where,
            fix='write path="/orders/{id}/refunds" and parent=Parent("orders", column="order_id")',
        )
    if unused := named - set(endpoint.placeholders):
        raise DeclarationError(
            f"nothing is requested by the partition {min(unused)}: it would read the same list for each value",
            where=where,
            fix=f"write {{{min(unused)}}} into the path, a parameter or the body",
        )
    if endpoint.parent is not None and endpoint.parent.group is not None:
        _check_group(endpoint, where)
    if endpoint.partitions and (endpoint.etag or isinstance(endpoint.cursor, ChangeToken)):
        raise DeclarationError(
            "several lists cannot have one ETag or change token", where=where, fix="declare partitions or these"
        )
    cursor = endpoint.cursor
    if isinstance(cursor, Since) and cursor.cap is not None and endpoint.total is None:
        raise DeclarationError(
            f"nothing says whether a window has more than {cursor.cap} records", where=where, fix="declare total"
        )
    if isinstance(cursor, Since) and cursor.missing == "exclude" and endpoint.total is not None:
        raise DeclarationError(
            "the total counts the records that are dropped", where=where, fix='write missing="include", or no total'
        )
    own = isinstance(endpoint.cursor, Since) and not endpoint.cursor.is_windowed and bool(endpoint.cursor.parameter)
    if endpoint.parent is not None and (
        (endpoint.cursor is not None and not own) or endpoint.etag or endpoint.total is not None
    ):
        raise DeclarationError(
            "an endpoint with a parent cannot have a change token, windows, ETag or total: it is loaded per parent",
            where=where,
            fix="remove them; only changed parents are fetched, each since its own cursor if there is one",
        )


def _check_group(endpoint: Endpoint, where: str) -> None:
    if endpoint.cursor is not None or endpoint.partitions:
        raise DeclarationError(
            "parents that are in one request have neither a cursor each nor a list per partition",
            where=where,
            fix="remove the group, or the cursor and the partitions; only changed parents are requested anyway",
        )
    if len(set(endpoint.placeholders)) > 1:
        raise DeclarationError(
            "a request for several parents has one value of each",
            where=where,
            fix="remove the group, or all names in braces but the key of the parent",
        )


def check_paging(endpoint: Endpoint, where: str) -> None:
    """Refuse paths, sizes and answers by which no list could be read."""
    # The first level of records may end in `[]`, as in entry[].resource.
    listed, _, inner = endpoint.records.partition("[]")
    parse_path(listed, many=True)
    for path in (inner.removeprefix("."), endpoint.total or ""):
        parse_path(path)
    if "[]" in endpoint.records and "*" in listed:
        raise DeclarationError(
            f"records={endpoint.records!r} has both [] and *", where=where, fix="write * for both: results.*.resource"
        )
    _check_answers(endpoint, where)
    if endpoint.deleted is not None:
        plain_steps(condition(endpoint.deleted)[0])
    if endpoint.only is not None:
        field_path, told, _ = endpoint.only.partition("=")
        plain_steps(field_path)
        if not told:
            raise DeclarationError(
                f"only={endpoint.only!r} has no value", where=where, fix='write only="resourceType=Patient"'
            )
    if endpoint.body is not None:
        try:
            json.dumps(endpoint.body)
        except (TypeError, ValueError):
            raise DeclarationError(
                "the body is not JSON", where=where, fix="use dicts, lists, strings, numbers, booleans and None"
            ) from None
    if endpoint.page_size is not None and endpoint.page_size < 1:
        raise DeclarationError("page_size must be at least 1", where=where, fix="omit it to send none")
    if endpoint.concurrent is not None and endpoint.concurrent < 1:
        raise DeclarationError(
            "concurrent must be at least 1", where=where, fix="write the number of parallel requests"
        )
    if endpoint.pagination is not None:
        check_pagination(endpoint.pagination, endpoint, where)


def _has_ends(endpoint: Endpoint) -> bool:
    return isinstance(endpoint.cursor, Since) and bool(endpoint.cursor.until and endpoint.cursor.begin)


def _check_answers(endpoint: Endpoint, where: str) -> None:
    meanings = {rule.then for rule in endpoint.answers}
    if endpoint.parent is None and not endpoint.partitions and "skip" in meanings:
        raise DeclarationError(
            "without a parent there is nothing to skip", where=where, fix='write then="ignore", "end" or "fail"'
        )
    if "halve" in meanings and (endpoint.parent is not None or not _has_ends(endpoint)):
        raise DeclarationError(
            "there is no window of time to halve", where=where, fix="declare until= and begin= of the cursor"
        )
    if "smaller" in meanings and endpoint.page_size is None:
        raise DeclarationError("nothing says how large a page is", where=where, fix="declare page_size")
