"""What a kind of source brings to the promises: a source of its own that tests can change.

Each kind has one module, `tests/kinds/<kind>/conformance.py`, with a declared `SOURCE` that has one table, `items`, and
`start`, a context manager that yields an `End`. A loaded item is (name, amount) by id; an amount below 0 breaks a rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows.declare.source import Source
from tests.conftest import TestDatabase

Items = dict[int, tuple[str, int]]

#: In every end's connection URL or key, and nowhere else.
SECRET = "zqconform-7b1c"  # nosec B105 - made up for the tests
TABLE = "items"


@dataclass
class End(ABC):
    """A source that a test can change, and what is expected of its kind.

    `variables` say where it is, as users do. `swapped` is SQL that swaps the names of items 3 and 4 in the relation
    `{0}`; `item` is SQL over raw or a landing table: id, name and amount.
    """

    source: Source
    variables: Mapping[str, str]
    item: str
    swapped: str
    #: What lineage calls the table: its namespace and name.
    dataset: tuple[str, str]
    #: The same items by a cursor of their ids, if the kind can: a plan then counts none that is there already.
    by_id: Source | None = None
    #: Whether a load notices items that are gone from the source.
    deletes: bool = True
    #: Whether two items may have one id at the source.
    duplicates: bool = True
    #: Whether columns may be masked before they leave the source.
    masks: bool = True
    #: Seconds after which a load no longer reads again what had been written when the last one looked.
    settles: float = 0.0
    #: Whether the source says how many items it has.
    counts: bool = True
    #: Rows that a load commits at once at least, beyond which it cannot divide its read: an API's page.
    commit: int = 1
    #: The ways in which the source can stop in the middle of its items as if that were the end.
    early_ends: tuple[str, ...] = ()

    @abstractmethod
    def write(self, *items: tuple[int, str, int]) -> None:
        """Add items, or change those whose ids are there."""

    @abstractmethod
    def delete(self, number: int) -> None:
        """Delete an item."""

    @abstractmethod
    def double(self, number: int, name: str | None = None) -> None:
        """Have the item twice, where the source allows it: as it is, or the second time with another name."""

    @abstractmethod
    def held(self) -> Items:
        """What the source holds, asked of itself."""

    def hide(self, number: int) -> bool:
        """Hide an item from the role that reads, and from it alone; False if the kind knows no such thing."""
        return False

    @abstractmethod
    def broken(self) -> AbstractContextManager[None]:
        """The source does not answer while this lasts: its password or key is refused, or it is gone."""

    def stopping(self, way: str) -> AbstractContextManager[None]:
        """While this lasts, reading ends early, in one of the ways of `early_ends`."""
        raise NotImplementedError


class Start(Protocol):
    """Makes an end for one test."""

    def __call__(self, shop: TestDatabase, folder: Path) -> AbstractContextManager[End]:
        """`shop` is an empty PostgreSQL database, `folder` an empty folder; a kind takes what it needs."""


@dataclass(frozen=True)
class Fixture:
    """A kind's contribution, by the name of its module; `missing` says what is not installed here.

    `gullible` makes the kind one that believes every end of a list, if its source can stop early.
    """

    module: str
    start: Start
    missing: Callable[[], str] = lambda: ""
    gullible: Callable[[], AbstractContextManager[None]] | None = None
