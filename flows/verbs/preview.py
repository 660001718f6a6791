"""A look at what a table's source answers, and whether it holds a row; nothing is written anywhere."""

from __future__ import annotations

from flows.access import addresses
from flows.kinds.answers import Ends, Preview
from flows.kinds.registry import KINDS, kind_of
from flows.verbs.find import find_table


async def preview(name: str, count: int) -> Preview:
    """The first `count` records of a declared table, as its kind shows them.

    Raises:
        DeclarationError: it is not declared, or its kind shows none.
        MedallionError: as a load's.
    """
    source, table = find_table(name)
    kind = kind_of(source)
    return await kind.preview(Ends(addresses.warehouse(), kind.address(source), source, table), count)


async def draft(
    kind: str, name: str, url: str, auth: str, parameter: str | None, key: str | None, user: str | None
) -> str:
    """A declaration of this kind, as Python, from what an address answers.

    Raises:
        MedallionError: nothing can be drafted from it, or the kind drafts none.
    """
    return await KINDS[kind].draft(name, url, auth, parameter, key, user)


async def source_holds(name: str, column: str, value: str) -> bool:
    """Whether a row of a declared table has this value in the column, at the source.

    Raises:
        DeclarationError: its kind cannot be asked for single rows.
    """
    source, table = find_table(name)
    kind = kind_of(source)
    return await kind.holds(Ends(addresses.warehouse(), kind.address(source), source, table), column, value)
