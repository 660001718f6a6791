"""The declared sources, by name."""

from flows.declare.source import Loadable, Source
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
        fix=f"use one of {', '.join(source.name for source in SOURCES)}",
    )


def find_table(name: str) -> tuple[Source, Loadable]:
    """The declared table of a source, by its full name: `shop.baskets`, `marketing.coupons`.

    Raises:
        DeclarationError: there is none; the message lists those there are.
    """
    source, _, table = name.partition(".")
    declared = find_source(source)
    return declared, declared.table(table)


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
