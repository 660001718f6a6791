"""Data subjects: a kind of person, and how rows refer to one."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of person with a right to erasure.

        Subject("household", key="household_id", home="shop.households", aliases=("household_key",),
                linked=("basket_id",), identifying=("full_name", "email", "phone"))

    `key` is the name of the subject's key in columns and record fields of every layer; `aliases` are other names with
    other values, such as surrogate keys. `linked` are keys of entities that belong to a subject and are referenced
    elsewhere by their own key alone, such as the lines of a basket. `identifying` are columns whose values would
    identify the subject anywhere. `home` is the source table with one row per subject.
    """

    name: str
    key: str
    home: str
    aliases: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    identifying: tuple[str, ...] = ()

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
