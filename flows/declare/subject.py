"""Data subjects: a kind of person, and how rows refer to one."""

import re
from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

_FIELD = re.compile(r"(?!\$$)[^\s.\[\]\"'*\\]+")


@dataclass(frozen=True, slots=True)
class KeyPath:
    """Where records of a source have a value under another name, or deeper than at the top level.

        KeyPath("marketing.redemptions", "household.id")       {"household": {"id": 13}}
        KeyPath("crm.*", "members[*].id")                      {"members": [{"id": 13}, {"id": 14}]}
        KeyPath("crm.people", "contact.mail", of="email")      an identifying value

    `table` is `source.table` or `source.*`. The first field of `path` may also be a column. A list is written with
    `[*]`. `of` is the name that the subject declares for the value; without it, its key.
    """

    table: str
    path: str
    of: str | None = None

    def __post_init__(self) -> None:
        where = f"path {self.path!r} of {self.table!r}"
        source, dot, table = self.table.partition(".")
        if not (source and dot and table):
            raise DeclarationError("it does not name a table of a source", where=where,
                                   fix='write KeyPath("marketing.redemptions", "household.id")')  # fmt: skip
        if not all(_FIELD.fullmatch(field) for field in self.fields):
            raise DeclarationError("it is not a path of fields", where=where,
                                   fix="write names of fields with dots between them, and [*] after a list: "
                                   "members[*].id")  # fmt: skip

    @property
    def fields(self) -> tuple[str, ...]:
        """`members[*].id` → `("members", "id")`: lists are entered wherever there are some."""
        return tuple(field.removesuffix("[*]") for field in self.path.split("."))


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of person with a right to erasure.

        Subject("household", key="household_id", home="shop.households", aliases=("household_key",),
                linked=("basket_id",), identifying=("full_name", "email", "phone"))

    `key` is the name of the subject's key in columns and record fields of every layer; `aliases` are other names with
    other values, such as surrogate keys. `linked` are keys of entities that belong to a subject and are referenced
    elsewhere by their own key alone, such as the lines of a basket. `identifying` are columns whose values would
    identify the subject anywhere. `home` is the source table with one row per subject. `paths` are where records have
    one of these values under another name: `medallion erase --subject household --paths` drafts them from the records
    in raw.
    """

    name: str
    key: str
    home: str
    aliases: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    identifying: tuple[str, ...] = ()
    paths: tuple[KeyPath, ...] = ()

    def __post_init__(self) -> None:
        where = f"subject {self.name}"
        require_plain(self.name, "subject", where)
        for name in (self.key, *self.aliases, *self.linked, *self.identifying):
            require_plain(name, "column", where)
        source, dot, table = self.home.partition(".")
        if not (source and dot and table):
            raise DeclarationError(
                f"home {self.home!r} does not name a table of a source", where=where, fix='write home="shop.households"'
            )
        known = (self.key, *self.aliases, *self.linked, *self.identifying)
        for path in self.paths:
            if path.of is not None and path.of not in known:
                raise DeclarationError(
                    f"path {path.path!r} of {path.table} is of {path.of!r}, which the subject does not declare",
                    where=where,
                    fix=f"use one of {', '.join(known)}",
                )

    def paths_of(self, name: str) -> tuple[KeyPath, ...]:
        """The declared paths of the value of that name."""
        return tuple(path for path in self.paths if (path.of or self.key) == name)
