"""Endpoints: lists of records of an API."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.declare.database import OnDrift
from flows.declare.load import Append, Merge, Replace
from flows.declare.refusals import refuse_repeats
from flows.declare.rule import OnDuplicate, Rule, Tolerance, refuse_unknown_reaction
from flows.kinds.api.declared.answers import When
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.pagination import Offset, PageNumber, Pagination
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.json_path import parse_path, plain_steps

# Allowed types of keys: they compare and hash the same at the API and in the warehouse.
KEY_TYPES = ("text", "bigint", "uuid", "date")
_PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a record that becomes a column of raw: its name, path and type.

    Field("channel", at="dimensionValues.1.value")
    """

    name: str
    at: str = ""
    type: str = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", self.at or self.name)
        plain_steps(self.at)
        if self.type not in KEY_TYPES:
            raise DeclarationError(
                f"the type {self.type!r} is unknown",
                where=f"field {self.name}",
                fix=f"use {', '.join(KEY_TYPES)}",
            )


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent endpoint: this endpoint is requested once per record of it.

        Endpoint("refunds", path="/orders/{id}/refunds", parent=Parent("orders", column="order_id"))

    `{id}` in the path is a key of the parent. `column` of raw has the record's parent, and may be part of its key.
    Only children of parents that changed since the last load are fetched; with `every=True` those of all parents,
    for children that change without their parents.
    """

    endpoint: str
    column: str
    type: str = "text"
    every: bool = False

    def __post_init__(self) -> None:
        if self.type not in KEY_TYPES:
            raise DeclarationError(
                f"the type {self.type!r} is unknown",
                where=f"parent {self.endpoint}",
                fix=f"use {', '.join(KEY_TYPES)}",
            )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One list of records.

        Endpoint("coupons", path="/v1/coupons", key="id", cursor=Since("updated_since", field="updated_at"))
        Endpoint("report", path="/v1/report", body={"metrics": ["sales"]}, key=("day", "shop"), pagination=Offset())

    `records` and `total` are paths in the response body: `""` if the body itself is the list, `entry[].resource`
    if each element contains its record one level down. `may_be_absent`: an empty list is omitted from the response.
    `only="resourceType=Patient"` excludes other records of the list.
    `key` names one or more fields of a record, or is a `Field` with its path; `key_type` is the raw type of named
    fields: text, bigint, uuid or date. `page_size` is sent as `page_size_parameter`; None sends nothing.
    `body` is sent as JSON, by POST. `deleted` is the path of the tombstone marker: true, or anything but null or
    false. `etag`: the API's ETag is valid for the full list, so a 304 means that nothing changed.
    `concurrent` pages are fetched in parallel if their URLs can be computed, or as many children.
    `answers` says what answers mean whose status does not say it, see `When`; the API's are looked at after these.
    `on_drift` is the reaction to a new or retyped field of a record: "evolve" records it, "freeze" refuses the load,
    "quarantine" quarantines the record.
    `on_duplicate` is the reaction to records of a replace that have one key and differ: "quarantine" sets all of them
    aside as `key_not_unique`, "newest" all but the last; both up to `max_quarantined`. A merge reads changes, of which
    the last one counts.
    """

    name: str
    path: str
    key: "str | Field | tuple[str | Field, ...]" = "id"
    key_type: str = "text"
    records: str = "data"
    only: str | None = None
    total: str | None = None
    cursor: Since | ChangeToken | None = None
    load: Replace | Merge | Append = field(default_factory=Merge)
    pagination: Pagination | None = None
    params: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = field(default=None, hash=False)
    page_size: int | None = None
    page_size_parameter: str = "limit"
    concurrent: int | None = None
    may_be_absent: bool = False
    deleted: str | None = None
    etag: bool = False
    parent: Parent | None = None
    answers: tuple[When, ...] = ()
    on_drift: OnDrift = "evolve"
    on_duplicate: OnDuplicate = "quarantine"
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    description: str = ""

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def key_fields(self) -> tuple[Field, ...]:
        """The key's columns in raw, and their paths in a record."""
        declared = self.key if isinstance(self.key, tuple) else (self.key,)
        return tuple(
            part if isinstance(part, Field) else Field(plain_steps(part)[-1], part, self.key_type) for part in declared
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns in raw."""
        return tuple(part.name for part in self.key_fields)

    @property
    def cursor_column(self) -> str | None:
        """The column of raw that the cursor follows."""
        return self.cursor.column if isinstance(self.cursor, Since) else None

    @property
    def deletes(self) -> bool:
        """Whether a merge detects deleted records: by tombstones, or because a parent's list is read completely."""
        return self.deleted is not None or self.lists_are_told_apart

    @property
    def lists_are_told_apart(self) -> bool:
        """Whether raw's parent column identifies a record's list: not if several parent keys are in the path."""
        return self.parent is not None and len(set(self.placeholders)) == 1

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.body is None else "POST"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The parent's fields in the path."""
        return tuple(_PLACE.findall(self.path))

    def __post_init__(self) -> None:
        where = f"endpoint {self.name}"
        require_plain(self.name, "endpoint", where)
        if not self.path.startswith("/"):
            raise DeclarationError(
                f"the path {self.path!r} is not absolute",
                where=where,
                fix="start it with /; it is relative to the base URL",
            )
        if not re.fullmatch(r"[^\x00-\x20\x7f#\\]+", self.path) or ".." in self.path.split("?")[0].split("/"):
            raise DeclarationError(
                f"the path {self.path!r} leaves the base URL, or contains characters that a path must not contain",
                where=where,
                fix="write it without spaces, control characters, # and /../",
            )
        if self.key_type not in KEY_TYPES:
            raise DeclarationError(
                f"key_type {self.key_type!r} is unknown", where=where, fix=f"use {', '.join(KEY_TYPES)}"
            )
        self._check_load(where)
        self._check_paging(where)
        self.tolerance.refuse_nonsense(where)
        refuse_unknown_reaction(self.on_duplicate, where)
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        columns = [*self.keys, *([self.parent.column] if self.parent and self.parent.column not in self.keys else [])]
        refuse_repeats([*columns, "payload"], "column", where)

    def _check_load(self, where: str) -> None:
        if not isinstance(self.load, Merge | Replace):
            raise DeclarationError(
                "an append is not supported for APIs, because pages may repeat records, which are merged by key",
                where=where,
                fix="use load=Merge() or load=Replace()",
            )
        if isinstance(self.load, Replace) and self.cursor is not None:
            raise DeclarationError(
                "a replace reads the full list, so a cursor would never be used",
                where=where,
                fix="remove the cursor, or use load=Merge()",
            )
        if isinstance(self.load, Replace) and self.parent is not None and not self.parent.every:
            raise DeclarationError(
                "a replace needs every record, but only the children of changed parents are fetched",
                where=where,
                fix="use load=Merge(), or Parent(…, every=True)",
            )
        if bool(self.placeholders) != (self.parent is not None):
            raise DeclarationError(
                "a path with {…} needs a parent, and a parent needs a path with {…}",
                where=where,
                fix='write path="/orders/{id}/refunds" and parent=Parent("orders", column="order_id")',
            )
        if self.parent is not None and (self.cursor is not None or self.etag or self.total is not None):
            raise DeclarationError(
                "an endpoint with a parent cannot have a cursor, ETag or total: it is loaded per changed parent",
                where=where,
                fix="remove them; only changed parents are fetched",
            )

    def _check_paging(self, where: str) -> None:
        # The first level of records may end in `[]`, as in entry[].resource.
        listed, _, inner = self.records.partition("[]")
        parse_path(listed, many=True)
        for path in (inner.removeprefix("."), self.total or ""):
            parse_path(path)
        if "[]" in self.records and "*" in listed:
            raise DeclarationError(
                f"records={self.records!r} has both [] and *", where=where, fix="write * for both: results.*.resource"
            )
        if self.parent is None and any(rule.then == "skip" for rule in self.answers):
            raise DeclarationError(
                "without a parent there is nothing to skip", where=where, fix='write then="ignore", "end" or "fail"'
            )
        if self.deleted is not None:
            plain_steps(self.deleted)
        if self.only is not None:
            field_path, told, _ = self.only.partition("=")
            plain_steps(field_path)
            if not told:
                raise DeclarationError(
                    f"only={self.only!r} has no value", where=where, fix='write only="resourceType=Patient"'
                )
        if self.body is not None:
            try:
                json.dumps(self.body)
            except (TypeError, ValueError):
                raise DeclarationError(
                    "the body is not JSON", where=where, fix="use dicts, lists, strings, numbers, booleans and None"
                ) from None
        if self.page_size is not None and self.page_size < 1:
            raise DeclarationError("page_size must be at least 1", where=where, fix="omit it to send none")
        if self.concurrent is not None and self.concurrent < 1:
            raise DeclarationError(
                "concurrent must be at least 1", where=where, fix="write the number of parallel requests"
            )
        if self.pagination is not None:
            self.check_pagination(self.pagination, where)

    def check_pagination(self, pagination: Pagination, where: str) -> None:
        """Refuse options that contradict the pagination.

        Raises:
            DeclarationError: `only` with a pagination that counts records, or an overlap of a full page.
        """
        if self.only is not None and isinstance(pagination, PageNumber | Offset):
            raise DeclarationError(
                "only= cannot be combined with a pagination that counts records",
                where=where,
                fix="remove only=, and filter these records in staging",
            )
        if isinstance(pagination, Offset):
            self.check_offset(pagination, where)
        if isinstance(pagination, PageNumber | Offset) and pagination.short_ends and self.page_size is None:
            raise DeclarationError(
                "nothing says how long a page is that is not short", where=where, fix="declare page_size"
            )
        if isinstance(pagination, PageNumber | Offset) and pagination.empty_pages:
            counted = self.total is not None and self.page_size is not None
            if not counted and (
                isinstance(pagination, Offset) or (pagination.pages is None and pagination.past_end is None)
            ):
                raise DeclarationError(
                    "with empty pages in between, nothing says where the list ends",
                    where=where,
                    fix="declare total and page_size, or with page numbers pages or past_end",
                )

    def check_offset(self, pagination: Offset, where: str) -> None:
        """Refuse an overlap that leaves no room for new records.

        Raises:
            DeclarationError: it is not smaller than a page.
        """
        if self.page_size is not None and pagination.overlap >= self.page_size:
            raise DeclarationError(
                f"an overlap of {pagination.overlap} covers a full page of {self.page_size}",
                where=where,
                fix="declare larger pages, or a smaller overlap",
            )

    def computed(self, pagination: Pagination) -> bool:
        """Whether the URLs of later pages can be computed from the first response."""
        if isinstance(pagination, PageNumber):
            return pagination.pages is not None or self.total is not None
        return isinstance(pagination, Offset) and self.total is not None
