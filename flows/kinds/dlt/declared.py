"""Sources of dlt (https://dlthub.com) and their resources. Literals only: nothing imports dlt."""

import re
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import get_args

from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Append, Merge, Replace
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.declare.rule import OnDuplicate, Rule, Tolerance, refuse_unknown_reaction
from flows.declare.table import OnDrift
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

# Allowed types of extracted keys and cursors, by PostgreSQL's long names: contracts compare them as text.
FIELD_TYPES = (
    "text",
    "bigint",
    "numeric",
    "uuid",
    "date",
    "timestamp with time zone",
    "timestamp without time zone",
)
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a dlt source: one table in raw.

        Resource("contacts", key="id", key_type="bigint", cursor="updatedAt", load=Merge())
        Resource("orders", key="order_id", columns=True)     Arrow tables or data frames, with typed columns
        Resource("pipelines")                                key and load from the resource's hints

    A record is stored as `payload jsonb`, with its key and cursor in separate columns: top-level fields, with the types
    `key_type` (one for all of the key's columns, or one per column) and `cursor_type`. With `columns` the resource
    yields Arrow tables or data frames, and raw has their columns; `on_drift` decides about changes.

    Omitted options are taken from the resource at its first use: `key` from its primary key, `load` from its write
    disposition, `deleted` from a column hint `hard_delete`. `deleted` is the field that marks a deleted record: true,
    or anything but null and false. `resource` is dlt's name for it if that is not a plain name.
    `count` is the import path of a function that returns the number of records at the source, for reconciliation.
    `may_be_empty` lets gate raw pass, with a warning, if raw has no row of it.
    `on_duplicate` is the reaction to records of a replace that have one key and differ: "quarantine" sets all of them
    aside as `key_not_unique`, "newest" all but the last; both up to `max_quarantined`. A merge reads changes, of which
    the last one counts.
    `freshness` is how fresh the table must be, in place of what the source declares. `budget` is what a load may read
    before it stops.
    """

    name: str
    load: Replace | Merge | Append | None = None
    key: str | tuple[str, ...] = ()
    key_type: str | tuple[str, ...] = "text"
    cursor: str | None = None
    cursor_type: str = "timestamp with time zone"
    columns: bool = False
    deleted: str | None = None
    resource: str | None = None
    count: str | None = None
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    on_drift: OnDrift = "evolve"
    on_duplicate: OnDuplicate = "quarantine"
    may_be_empty: bool = False
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def keys(self) -> tuple[str, ...]:
        """The declared key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def deletes(self) -> bool:
        """Only a full read detects deleted records; records marked as deleted are handled separately."""
        return False

    @property
    def cursor_is_time(self) -> bool:
        """Whether the cursor's values are points in time."""
        return self.cursor is not None and self.cursor_type.startswith(("timestamp", "date"))

    @property
    def dlt_name(self) -> str:
        """dlt's name of the resource."""
        return self.resource or self.name

    def types_of(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """The type of each of the key's columns."""
        return (self.key_type,) * len(keys) if isinstance(self.key_type, str) else self.key_type

    def __post_init__(self) -> None:
        where = f"resource {self.name}"
        require_plain(self.name, "resource", where)
        types = (self.key_type,) if isinstance(self.key_type, str) else self.key_type
        for declared in (*types, self.cursor_type):
            if declared not in FIELD_TYPES:
                raise DeclarationError(
                    f"the type {declared!r} is unknown", where=where, fix=f"use {', '.join(FIELD_TYPES)}"
                )
        if not isinstance(self.key_type, str) and len(self.key_type) != len(self.keys):
            raise DeclarationError(
                f"{len(self.keys)} key columns have {len(self.key_type)} types",
                where=where,
                fix="declare one key_type for all of them, or one per column in the key's order",
            )
        named = [*self.keys, *([self.cursor] if self.cursor is not None else [])]
        if not all(named):
            raise DeclarationError(
                "the name of a field of the key or cursor is empty", where=where, fix="write it as in the records"
            )
        if not self.columns and (_PAYLOAD in named or any(name.startswith("_") for name in named)):
            raise DeclarationError(
                "a key or cursor must not be named payload or start with _: these names are reserved in raw",
                where=where,
                fix="rename the field in the resource, with add_map",
            )
        match self.load:
            case Replace() if self.cursor is not None:
                raise DeclarationError(
                    "a replace reads everything, so a cursor would never be used",
                    where=where,
                    fix="remove the cursor, or use load=Merge()",
                )
            case Replace() | Append() if self.deleted is not None:
                raise DeclarationError(
                    "deleted= needs a merge: replace removes deleted records anyway, append keeps all records",
                    where=where,
                    fix="use load=Merge(), or remove deleted",
                )
            case _:
                pass
        self.tolerance.refuse_nonsense(where)
        refuse_freshness(self.freshness, where, has_time=self.cursor_is_time)
        refuse_budget(self.budget, where)
        refuse_unknown_reaction(self.on_duplicate, where)
        if self.on_drift not in get_args(OnDrift):
            raise DeclarationError(
                f"on_drift {self.on_drift!r} is unknown", where=where, fix=f"use one of {', '.join(get_args(OnDrift))}"
            )
        if self.on_drift == "quarantine":
            raise DeclarationError(
                'on_drift="quarantine" is supported for tables of a Database only',
                where=where,
                fix='use on_drift="evolve" or "freeze"',
            )
        if self.count is not None:
            _require_import_path(self.count, "count", where)
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)


@dataclass(frozen=True, slots=True)
class DltSource:
    """A source of dlt, loaded by our own publish step.

        DltSource("hubspot", build="crm.hubspot:hubspot", resources=[Resource("contacts", key="id", load=Merge())])

    `build` is the import path of a function that returns the dlt source, a resource, or a list of resources; it is
    imported and called when a load or a plan begins, and never before. Secrets and options of the source come from
    where dlt looks for them (SOURCES__HUBSPOT__API_KEY, .dlt/secrets.toml). With `connection` the function is also
    handed our own: as `url` and `key`, those of the two that it takes, from MEDALLION_SOURCE_<CONNECTION>_URL and …_KEY
    or from the block source-<connection>. `freshness` is how fresh its tables must be, `budget` what all loads of a run
    may read together.
    """

    name: str
    build: str
    resources: SequenceOf[Resource]
    connection: str | None = None
    schedule: str | None = None
    max_parallel: int = 2
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None

    @property
    def kind(self) -> str:
        """The folder in flows/kinds with its implementation."""
        return "dlt"

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_hubspot`."""
        return f"raw_{self.name}"

    @property
    def tables(self) -> SequenceOf[Resource]:
        """The resources, under the common name of all sources."""
        return self.resources

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        if self.connection is not None:
            require_plain(self.connection, "connection", where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        _require_import_path(self.build, "build", where)
        if not self.resources:
            raise DeclarationError("no resources", where=where, fix="declare at least one Resource")
        refuse_repeats([resource.name for resource in self.resources], "resource", where)
        object.__setattr__(self, "resources", tuple(self.resources))

    def table(self, name: str) -> Resource:
        """The declared resource of that name.

        Raises:
            DeclarationError: it does not exist; the message lists the declared ones.
        """
        for resource in self.resources:
            if resource.name == name:
                return resource
        raise unknown_table(self.name, name, [resource.name for resource in self.resources])


def _require_import_path(path: str, what: str, where: str) -> None:
    if not _IMPORT_PATH.fullmatch(path):
        raise DeclarationError(
            f"{what} is {path!r}, which is not an import path of a function",
            where=where,
            fix='write module and function, such as "crm.hubspot:hubspot"',
        )
