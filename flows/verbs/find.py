"""The declared sources, by name."""

from flows.kinds.api import Api, Endpoint
from flows.kinds.declared import Source
from flows.kinds.dlt import DltSource
from flows.kinds.postgres import Database, Table
from flows.sources import SOURCES
from flows.values.errors import DeclarationError


def find_source(name: str) -> Source:
    """The declared source of that name.

    Raises:
        DeclarationError: there is none; the message lists those there are.
    """
    for source in SOURCES:
        if source.name == name:
            return source
    raise DeclarationError(
        f"no source {name!r} is declared",
        where="flows/sources",
        fix=f"choose among {', '.join(source.name for source in SOURCES)}",
    )


def find_database_table(name: str) -> tuple[Database, Table]:
    """The declared table of a database, by its whole name: `shop.baskets`.

    Raises:
        DeclarationError: there is none, or it is no table of a database.
    """
    source, _, table = name.partition(".")
    declared = find_source(source)
    if isinstance(declared, DltSource):
        raise DeclarationError(
            f"{source} is a dlt source, whose resources decide by their own state what is read",
            where="flows/sources",
            fix=f"to have all of {name} read again, rename its raw table away and run `medallion run {name}`; "
            "for some days of it, declare a resource that yields those",
        )
    if not isinstance(declared, Database):
        raise DeclarationError(
            f"{source} is no database",
            where="flows/sources",
            fix="name a table of a database, such as shop.baskets",
        )
    return declared, declared.table(table)


def find_endpoint(name: str) -> tuple[Api, Endpoint]:
    """The declared endpoint of an API, by its whole name: `marketing.coupons`.

    Raises:
        DeclarationError: there is none, or it is a database's table.
    """
    source, _, endpoint = name.partition(".")
    declared = find_source(source)
    if not isinstance(declared, Api):
        raise DeclarationError(
            f"{source} is no API", where="flows/sources", fix="name an endpoint, such as marketing.coupons"
        )
    return declared, declared.table(endpoint)


def choose(names: list[str] | None) -> dict[str, list[str] | None]:
    """`["shop.baskets", "marketing"]` → `{"shop": ["baskets"], "marketing": None}`; None means every table.

    Raises:
        DeclarationError: a source or table is not declared.
    """
    if not names:
        return {source.name: None for source in SOURCES}
    chosen: dict[str, list[str] | None] = {}
    for name in names:
        source, _, table = name.partition(".")
        declared = find_source(source)
        tables = chosen.get(source, [])
        if not table:
            chosen[source] = None
        elif tables is not None:
            chosen[source] = [*tables, declared.table(table).name]
    return chosen
