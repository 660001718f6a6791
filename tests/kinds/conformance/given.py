"""One source and one warehouse, and what the promises do with them."""

from __future__ import annotations

import signal
from dataclasses import dataclass, fields, replace
from typing import Any

import psycopg

from flows.declare.source import Source
from flows.kinds.registry import kind_of
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from flows.verbs.plan import PlanLine, plan_sources
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.conformance.end import TABLE, End, Items
from tests.sessions import take_over_sessions

Rows = list[tuple[Any, ...]]


@dataclass
class Given:
    """One source and one warehouse, and what is done with them."""

    end: End
    warehouse: TestDatabase
    module: str
    source: Source

    def __post_init__(self) -> None:
        #: As it was declared at first.
        self.first = self.source

    def redeclare(self, **changed: Any) -> None:
        """Declare the table otherwise from here on."""
        source: Any = self.source
        table: Any = source.table(TABLE)
        # Kinds name their tables differently: tables, endpoints, resources.
        listed = {
            field.name: [replace(table, **changed)]
            for field in fields(source)
            if isinstance(held := getattr(source, field.name), list | tuple) and table in held
        }
        self.source = replace(source, **listed)

    @property
    def address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def raw(self) -> str:
        return f"{self.source.raw_schema}.{TABLE}"

    async def load(self) -> LoadResult:
        source = self.source
        take_over_sessions()
        return await load_table(self.address, kind_of(source).address(source), source, source.table(TABLE))

    async def load_killed(self, failpoint: str) -> int:
        """A load in a process that dies at the failpoint; returns how it ended."""
        variables = {
            **self.end.variables, "MEDALLION_WAREHOUSE_URL": self.warehouse.url("loader"),
            "MEDALLION_FAILPOINT": failpoint,
        }  # fmt: skip
        done = forking.run("tests.kinds.conformance.one_load", [self.module], variables)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    async def compare(self, *, repair: bool = False) -> Reconciliation:
        source = self.source
        address = kind_of(source).address(source)
        return await compare_table(self.address, address, source, source.table(TABLE), repair=repair)

    async def plan(self) -> PlanLine:
        (line,) = await plan_sources({self.source.name: None})
        return line

    def ask(self, query: str) -> Rows:
        with psycopg.connect(self.warehouse.url("admin"), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def live(self) -> Items:
        """What raw holds of what is there."""
        found = self.ask(f"select {self.end.item} from {self.raw} where _deleted_at is null")
        assert len({row[0] for row in found}) == len(found), "an item is in raw twice"
        return {number: (name, amount) for number, name, amount in found}

    def image(self) -> Rows:
        """Every row of raw, with its metadata."""
        return self.ask(f"select r::text from {self.raw} as r order by 1")

    def rest(self) -> Rows:
        """Everything that a load would have written."""
        return self.ask(
            "select 'loads', count(*)::text from ops.loads union all select 'cursor', c::text from ops.cursors as c "
            "union all select 'quarantine', q::text from quarantine.rows as q "
            "union all select 'relation', oid::regclass::text || pg_relation_filenode(oid) from pg_class "
            "where relkind = 'r' and relnamespace::regnamespace::text !~ '^pg_|information_schema' order by 1, 2"
        )

    def landed(self) -> Rows:
        """What loads left behind in the landing schema."""
        return self.ask("select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'")
