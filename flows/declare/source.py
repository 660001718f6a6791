"""The protocol of declared sources and tables of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flows.declare.budget import Budget
from flows.declare.freshness import Freshness
from flows.declare.load import Append, Merge, Overwrite, Replace
from flows.declare.rule import Rule, Tolerance


class Loadable(Protocol):
    """A table, endpoint or resource: one table in raw. `load` is None if the source decides it."""

    @property
    def name(self) -> str:
        """The name, also of the raw table."""

    @property
    def load(self) -> Replace | Append | Merge | Overwrite | None:
        """The load strategy."""

    @property
    def cursor(self) -> Any:
        """The cursor, as declared by the kind, or None."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns, in order."""

    @property
    def deletes(self) -> bool:
        """Whether a load detects rows deleted at the source."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Row checks."""

    @property
    def max_quarantined(self) -> float:
        """The share of a read's rows (0 to 1) that may break a row check."""

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""

    @property
    def may_be_empty(self) -> bool:
        """Whether raw may have no row of it when the models are built."""

    @property
    def freshness(self) -> Freshness | None:
        """How fresh it must be; None: as its source declares."""

    @property
    def budget(self) -> Budget | None:
        """What a load may read before it stops."""

    @property
    def description(self) -> str:
        """A one-sentence description for dbt and the documentation."""


class Source(Protocol):
    """A declared source: its schedule, its tables and their raw schema."""

    @property
    def name(self) -> str:
        """The name: `shop`."""

    @property
    def kind(self) -> str:
        """The folder in flows/kinds with its implementation."""

    @property
    def connection(self) -> str | None:
        """Its name in environment variables and blocks; None if it needs no connection URL."""

    @property
    def schedule(self) -> str | None:
        """A cron expression in UTC."""

    @property
    def max_parallel(self) -> int:
        """How many of its tables are loaded in parallel."""

    @property
    def description(self) -> str:
        """A one-sentence description for dbt and the documentation."""

    @property
    def freshness(self) -> Freshness | None:
        """How fresh its tables must be, unless they declare it themselves."""

    @property
    def budget(self) -> Budget | None:
        """What all loads of a run may read together."""

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_shop`."""

    @property
    def tables(self) -> Sequence[Loadable]:
        """Its tables, in declared order."""

    def table(self, name: str) -> Loadable:
        """The declared table of that name.

        Raises:
            DeclarationError: it does not exist; the message lists the declared ones.
        """
