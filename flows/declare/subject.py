"""Whose data it is: a kind of person, and how rows tell that they are about one."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of person that may ask to be forgotten.

        Subject("household", key="household_id", home="shop.households", aliases=("household_key",),
                linked=("basket_id",), identifying=("full_name", "email", "phone"))

    `key` is the name that columns, and fields of records, have in every layer where they say whose row it is; `aliases`
    are other names with values of their own, as surrogate keys. `linked` are keys of what belongs to a person and
    is told of elsewhere by its own key alone: the lines of a basket. `identifying` are the columns whose values would
    tell who it was wherever they stood. `home` is the table of a source that holds one row a person.
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
                f"home {self.home!r} names no table of a source", where=where, fix='write home="shop.households"'
            )
