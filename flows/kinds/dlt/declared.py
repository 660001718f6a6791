"""A source of dlt (https://dlthub.com) that we read, and its resources. Here are literals only: nothing imports dlt."""

import re
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import get_args

from flows.declare.database import OnDrift
from flows.declare.load import Append, Merge, Replace
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.declare.rule import Rule, Tolerance
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

# Types a key or cursor read out of a record may have, by PostgreSQL's own long names: contracts compare them as text.
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
        Resource("orders", key="order_id", columns=True)     its Arrow tables or data frames, typed column by column
        Resource("pipelines")                                key and load as the resource itself says

    A record is kept whole as `payload jsonb`, with its key and cursor in columns of their own: top-level fields, read
    in the types `key_type` (one for all of the key's columns, or one each) and `cursor_type`. With `columns` the
    resource yields Arrow tables or data frames, and raw has their columns, as `on_drift` says when these change.

    What is left out is taken from the resource at its first use: `key` from its primary key, `load` from its write
    disposition, `deleted` from a column hint `hard_delete`. `deleted` names the field by which a record says that it is
    deleted: true, or anything but null and false. `resource` is dlt's name for it where that is not a plain one.
    `count` is the import path of a function that returns how many records the source holds, for reconciliation.
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
    description: str = ""

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break rules."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def keys(self) -> tuple[str, ...]:
        """The declared key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def deletes(self) -> bool:
        """Only a whole read tells of records that are gone; those that say so themselves are another matter."""
        return False

    @property
    def dlt_name(self) -> str:
        """What dlt calls the resource."""
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
                fix="give one key_type for all of them, or one each, in the key's order",
            )
        named = [*self.keys, *([self.cursor] if self.cursor is not None else [])]
        if not all(named):
            raise DeclarationError(
                "a field of the key or cursor has no name", where=where, fix="write it as the records have it"
            )
        if not self.columns and (_PAYLOAD in named or any(name.startswith("_") for name in named)):
            raise DeclarationError(
                "a key or cursor may be called neither payload nor anything beginning with _: raw has these itself",
                where=where,
                fix="give the field another name in the resource, with add_map",
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
                    "records that say they are deleted mark merged ones; replace drops them itself, append keeps all",
                    where=where,
                    fix="use load=Merge(), or remove deleted",
                )
            case _:
                pass
        self.tolerance.refuse_nonsense(where)
        if self.on_drift not in get_args(OnDrift):
            raise DeclarationError(
                f"on_drift is {self.on_drift!r}", where=where, fix=f"choose among {', '.join(get_args(OnDrift))}"
            )
        if self.on_drift == "quarantine":
            raise DeclarationError(
                "rows that do not fit raw's columns wait in quarantine of tables of a Database only",
                where=where,
                fix='use on_drift="evolve" or "freeze"',
            )
        if self.count is not None:
            _require_import_path(self.count, "count", where)
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)


@dataclass(frozen=True, slots=True)
class DltSource:
    """A source of dlt, landed by our own publish step.

        DltSource("hubspot", build="crm.hubspot:hubspot", resources=[Resource("contacts", key="id", load=Merge())])

    `build` is the import path of a function that returns the dlt source, a resource, or a list of resources; it is
    imported and called when a load or a plan begins, and never before. Secrets and options of the source come from
    where dlt looks for them (SOURCES__HUBSPOT__API_KEY, .dlt/secrets.toml). With `connection` the function is also
    handed our own: as `url` and `key`, those of the two that it takes, from MEDALLION_SOURCE_<CONNECTION>_URL and …_KEY
    or from the block source-<connection>.
    """

    name: str
    build: str
    resources: SequenceOf[Resource]
    connection: str | None = None
    schedule: str | None = None
    max_parallel: int = 2
    description: str = ""
    kind: str = field(default="dlt", init=False)

    @property
    def raw_schema(self) -> str:
        """Where its records land: `raw_hubspot`."""
        return f"raw_{self.name}"

    @property
    def tables(self) -> SequenceOf[Resource]:
        """The resources, as every source names what it loads."""
        return self.resources

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        if self.connection is not None:
            require_plain(self.connection, "connection", where)
        _require_import_path(self.build, "build", where)
        if not self.resources:
            raise DeclarationError("no resources", where=where, fix="declare at least one Resource")
        refuse_repeats([resource.name for resource in self.resources], "resource", where)
        object.__setattr__(self, "resources", tuple(self.resources))

    def table(self, name: str) -> Resource:
        """The declared resource of that name.

        Raises:
            DeclarationError: there is none; the message lists those there are.
        """
        for resource in self.resources:
            if resource.name == name:
                return resource
        raise unknown_table(self.name, name, [resource.name for resource in self.resources])


def _require_import_path(path: str, what: str, where: str) -> None:
    if not _IMPORT_PATH.fullmatch(path):
        raise DeclarationError(
            f"{what} is {path!r}, and no import path of a function",
            where=where,
            fix='write module and function, such as "crm.hubspot:hubspot"',
        )
