"""Endpoints: lists of records of an API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Append, Merge, Replace
from flows.declare.refusals import refuse_repeats
from flows.declare.rule import OnDuplicate, Rule, Tolerance, refuse_unknown_reaction
from flows.declare.table import OnDrift
from flows.kinds.api.declared.answers import When
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint_checks import check_load, check_paging
from flows.kinds.api.declared.format import Format
from flows.kinds.api.declared.headers import Headers, refuse_headers
from flows.kinds.api.declared.job import OWN_NAMES, Job
from flows.kinds.api.declared.pagination import Offset, PageNumber, Pagination
from flows.kinds.api.declared.parts import KEY_TYPES, Field, Parent, Partition, placeholders_in, places_in
from flows.kinds.api.declared.properties import Properties
from flows.kinds.api.declared.transport import transport_problem
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.json_path import plain_steps


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One list of records.

        Endpoint("coupons", path="/v1/coupons", key="id", cursor=Since("updated_since", field="updated_at"))
        Endpoint("report", path="/v1/report", body={"metrics": ["sales"]}, key=("day", "shop"), pagination=Offset())

    `records` and `total` are paths in the response body: `""` if the body itself is the list, `entry[].resource`
    if each element contains its record one level down. `may_be_absent`: an empty list is omitted from the response.
    `may_be_empty` lets gate raw pass, with a warning, if raw has no record of it.
    `only="resourceType=Patient"` excludes other records of the list.
    `key` names one or more fields of a record, or is a `Field` with its path; `key_type` is the raw type of named
    fields: text, bigint, uuid or date. `page_size` is sent as `page_size_parameter`; None sends nothing.
    `headers` are sent with its requests, besides the API's. `body` is sent as JSON, by POST. `deleted` is the path of
    the tombstone marker: true, or anything but null or false; or a value of it, `status=deleted`. `etag`: the API's
    ETag is valid for the full list, so a 304 means that nothing changed.
    `concurrent` pages are fetched in parallel if their URLs can be computed, or as many children.
    `format` is that of a body that is not JSON: `Csv()`, `NdJson()`, `Xml("Order")`. `records_as`: what is at `records`
    is a "list"; one "object"; or "objects_by_id", whose keys become the field `_key` of their records. `form`: the body
    is sent as a form; one that is a text is sent as it is, as `body_type`. `job`: the API prepares the records first.
    `partitions` are values that it is requested for, one list each, see `Partition`. `properties` are fields that are
    requested by name, in several parts, see `Properties`.
    `answers` says what answers mean whose status does not say it, see `When`; the API's are looked at after these.
    `on_drift` is the reaction to a new or retyped field of a record: "evolve" records it, "freeze" refuses the load,
    "quarantine" quarantines the record.
    `on_duplicate` is the reaction to records of a replace that have one key and differ: "quarantine" sets all of them
    aside as `key_not_unique`, "newest" all but the last; both up to `max_quarantined`. A merge reads changes, of which
    the last one counts.
    `freshness` is how fresh the table must be, in place of what the API declares. `budget` is what a load may read
    before it stops.
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
    headers: Headers = ()
    body: Mapping[str, Any] | str | None = field(default=None, hash=False)
    page_size: int | None = None
    page_size_parameter: str = "limit"
    concurrent: int | None = None
    may_be_absent: bool = False
    deleted: str | None = None
    etag: bool = False
    parent: Parent | None = None
    format: Format | None = None
    records_as: Literal["list", "object", "objects_by_id"] = "list"
    form: bool = False
    body_type: str = "text/plain; charset=utf-8"
    job: Job | None = None
    partitions: tuple[Partition, ...] = ()
    properties: Properties | None = None
    answers: tuple[When, ...] = ()
    on_drift: OnDrift = "evolve"
    on_duplicate: OnDuplicate = "quarantine"
    may_be_empty: bool = False
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def key_fields(self) -> tuple[Field, ...]:
        """The key's columns in raw, and their paths in a record."""
        declared = self.key if isinstance(self.key, tuple) else (self.key,)
        own = {part.name: part.type for part in self.partitions}
        own |= {field.name: field.type for field in (self.parent.fields if self.parent else ())}
        return tuple(
            part if isinstance(part, Field) else _field(part, own.get(part, self.key_type)) for part in declared
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns in raw."""
        return tuple(part.name for part in self.key_fields)

    @property
    def cursor_column(self) -> str | None:
        """The column of raw that the stored cursor follows. Of children none is stored: each parent has its own."""
        return self.cursor.column if isinstance(self.cursor, Since) and self.parent is None else None

    @property
    def deletes(self) -> bool:
        """Whether a merge detects deleted records: by tombstones, or because a parent's list is read completely."""
        return self.deleted is not None or self.lists_are_told_apart

    @property
    def lists_are_told_apart(self) -> bool:
        """Whether raw's parent column identifies a whole list: not if several parent keys are in the request."""
        if self.parent is None or self.cursor is not None or self.partitions:
            return False
        return len(set(self.placeholders) - {field.name for field in self.parent.fields}) == 1

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.body is None else "POST"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names in braces of path, parameters, headers and body: values of the parent or of partitions."""
        job = self.job.templates if self.job is not None else ()
        names = (
            *placeholders_in(self.path),
            *places_in([value for _, value in (*self.params, *self.headers)]),
            *places_in([self.body, *job]),
        )
        return names if self.job is None else tuple(name for name in names if name not in OWN_NAMES)

    @property
    def copied(self) -> tuple[Field, ...]:
        """The columns of raw whose values are those of the request: the parent's, and the partitions'."""
        parent, parts = self.parent, [Field(part.name, type=part.type) for part in self.partitions]
        own = () if parent is None else (Field(parent.column, type=parent.type), *parent.fields)
        return (*own, *parts)

    @property
    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """The combinations of the partitions' values, in order."""
        return tuple(product(*(part.values for part in self.partitions)))

    @property
    def shrinks(self) -> bool:
        """Whether a page may be requested with fewer records."""
        return any(rule.then == "smaller" for rule in self.answers)

    @property
    def ends_by_answer(self) -> bool:
        """Whether an answer is declared to be the end of the list."""
        return any(rule.then == "end" for rule in self.answers)

    @property
    def is_divided(self) -> bool:
        """Whether there are several lists: of partitions, or of windows of time."""
        is_windowed = isinstance(self.cursor, Since) and self.cursor.is_windowed
        return bool(self.partitions) or is_windowed or any(rule.then == "halve" for rule in self.answers)

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
        refuse_headers(self.headers, where)
        check_load(self, where)
        check_paging(self, where)
        if (problem := transport_problem(self)) is not None:
            raise DeclarationError(problem[0], where=where, fix=problem[1])
        self.tolerance.refuse_nonsense(where)
        has_time = isinstance(self.cursor, Since) and self.cursor.is_time
        refuse_freshness(self.freshness, where, has_time=has_time)
        refuse_budget(self.budget, where)
        refuse_unknown_reaction(self.on_duplicate, where)
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        own = [field.name for field in self.copied]
        refuse_repeats(own, "column", where)
        columns = [*self.keys, *(name for name in own if name not in self.keys)]
        refuse_repeats([*columns, "payload"], "column", where)

    def computed(self, pagination: Pagination) -> bool:
        """Whether the URLs of later pages can be computed from the first response."""
        if isinstance(pagination, PageNumber):
            return pagination.pages is not None or self.total is not None
        return isinstance(pagination, Offset) and self.total is not None


def _field(path: str, kind: str) -> Field:
    return Field(plain_steps(path)[-1], path, kind)
