"""A platform at night: a source, a warehouse, a watch with a clock of the test's, and who follows a page at a terminal.

Commands of pages run as they are written there, in this process, against real PostgreSQL. What starts flows of Prefect,
or asks a server of it, is done by `Night.stands_for` instead: those commands are run as they are in tests/flows,
tests/deployments and tests/infra, and a server alone would take longer than all exercises together.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.access.addresses import SourceAddress, connect
from flows.cli.app import app
from flows.declare import Merge
from flows.failures.circuit import guarded
from flows.failures.diagnose import diagnose
from flows.kinds.files import Files
from flows.kinds.postgres import Database, Table
from flows.operations.alerts import Condition
from flows.operations.checks.check import Check, Round
from flows.operations.freshness import Clocks
from flows.state import ledger, reconciliations, runs
from flows.values.errors import MedallionError
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.docs.runbooks.pages import Block, Step, page
from tests.operations.watches import Watching
from tests.publish.two_ends import Rows, TwoEnds, run_sql
from tests.sessions import take_over_sessions

Hand = Callable[[], object]
OPEN = "select name || ' ' || subject from ops.alerts where resolved_at is null order by 1"
#: Commands that say by their exit code what they have found.
_SAY = {"medallion alerts list": 1, "medallion decide list": 5, "medallion freshness": 1}


@dataclass
class Night:
    """Both ends, the watch, and the tables that are declared."""

    ends: TwoEnds
    it: Watching
    patched: pytest.MonkeyPatch
    runner: asyncio.Runner
    source: Database | Files = field(init=False)
    folder: str = ""
    #: What is done in place of a command. One that ends with a space takes what follows it.
    stands_for: dict[str, Callable[[list[str]], object]] = field(default_factory=dict)
    #: What a build of the models does, and whether one is needed.
    build: Hand | None = None

    def __post_init__(self) -> None:
        import flows.cli.cursor
        import flows.cli.erase
        import flows.cli.outside
        import flows.cli.quality  # noqa: F401

        # It sets variables and the umask for the process, and asks for a server.
        for name, module in [*sys.modules.items()]:
            if name.startswith("flows.cli.") and hasattr(module, "prepare"):
                self.patched.setattr(module, "prepare", lambda **_: None)
        self.patched.setattr("flows.cli.outside.keep_private", lambda: None)
        flows_of_prefect = SimpleNamespace(run=self._ingest, transform=self._transform)
        self.patched.setattr("flows.cli.watch", flows_of_prefect, raising=False)
        self.patched.setitem(sys.modules, "flows.cli.watch", flows_of_prefect)
        self.declare()

    # -- the two ends

    def declare(self, *tables: Table, **options: Any) -> None:
        """These tables, and no others, are declared."""
        # A source without tables cannot be declared.
        tables = tables or (Table("t", key="id", load=Merge()),)
        self.declare_source(Database("shop", connection="shop", tables=tables, **options))

    def declare_source(self, source: Database | Files, folder: str = "") -> None:
        """This source, and no other, is declared."""
        self.source, self.folder = source, folder
        for module in (
            "flows.verbs.find",
            "flows.sources",
            "flows.operations.freshness",
            "flows.operations.address_book",
        ):
            self.patched.setattr(f"{module}.SOURCES", (self.source,))
        self.patched.setattr("flows.operations.freshness.Clocks", partial(Clocks, (self.source,), ()))

    def at_source(self, statement: str) -> Rows:
        """As the application that owns the tables there."""
        return self.ends.source(statement)

    def raw(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """In the warehouse, as the loader."""
        return self.ends.raw(statement, parameters)

    def as_admin(self, statement: str, database: TestDatabase | None = None) -> Rows:
        """In the warehouse, as an administrator."""
        return run_sql((database or self.ends.warehouse).url("admin"), statement)

    def load(self, name: str) -> MedallionError | None:
        """One load of a declared table; the error, if it failed."""
        table = self.source.table(name)

        async def guarded_load() -> None:
            async with (
                connect(self.ends.warehouse_address, side="warehouse") as warehouse,
                guarded(warehouse, self.source.name, f"source {self.source.name}"),
            ):
                take_over_sessions()
                address = SourceAddress(self.folder) if self.folder else self.ends.shop_address
                await load_table(self.ends.warehouse_address, address, self.source, table)

        try:
            self.wait_for(guarded_load())
        except MedallionError as error:
            return error
        return None

    def wait_for(self, coroutine: Any) -> Any:
        """The result of something that is awaited."""
        return self.runner.run(coroutine)

    def _ingest(self, chosen: Mapping[str, list[str] | None], **_: Any) -> bool:
        """What a run of ingest does, without Prefect."""
        for name, tables in chosen.items():
            number = self.begin_run("ingest", name)
            errors = [self.load(table) for table in tables or [each.name for each in self.source.tables]]
            found = [error for error in errors if error is not None]
            self.end_run(number, "failed" if found else "done")
            if found:
                raise found[0]
        return False

    def _transform(self, **_: Any) -> None:
        """What a run of transform does, without Prefect and dbt: the gates of this exercise."""
        number = self.begin_run("transform", "")
        if self.build is not None:
            self.build()
        self.raw(
            """update ops.runs set details = '{"full_build": true}' where run_id = %(number)s""", {"number": number}
        )
        self.end_run(number, "done")

    def begin_run(self, pipeline: str, scope: str) -> int:
        """A run that is recorded in the ledger."""

        async def begin() -> int:
            async with connect(self.ends.warehouse_address, side="warehouse") as warehouse:
                return await runs.open_run(warehouse, pipeline, scope, None, f"correlation-{pipeline}-{scope}")

        return int(self.wait_for(begin()))

    def end_run(self, number: int, status: str, error: Exception | None = None) -> None:
        """Its end."""

        async def end() -> None:
            async with connect(self.ends.warehouse_address, side="warehouse") as warehouse:
                facts = diagnose(error, "a run").facts(number, None) if error is not None else None
                if facts is not None:
                    await ledger.record_error(warehouse, facts)
                await runs.close_run(warehouse, number, status, facts["error_id"] if facts else None)

        self.wait_for(end())

    def stop_run(self, number: int) -> None:
        """A person cancels it."""

        async def stop() -> None:
            async with connect(self.ends.warehouse_address, side="warehouse") as warehouse:
                await runs.close_stopped_run(warehouse, number, runs.CANCELLED)

        self.wait_for(stop())

    def compare(self, table: Table) -> None:
        """Both ends of a table, as `medallion reconcile` compares and records them."""

        async def compared() -> None:
            found = await compare_table(self.ends.warehouse_address, self.ends.shop_address, self.source, table)
            async with connect(self.ends.warehouse_address, side="warehouse") as warehouse:
                await reconciliations.record(warehouse, None, found)

        self.wait_for(compared())

    def class_of(self, subject: str) -> str:
        """The class of the newest error of an alert about that."""
        found = (
            "select failure_class from ops.alerts inner join ops.errors using (error_id) "
            "where subject = %(subject)s order by alert_id desc limit 1"
        )
        return str(self.raw(found, {"subject": subject})[0][0])

    def checked(self, outcome: str, gate: str = "raw", dataset: str = "raw_shop.stores") -> None:
        """A gate's check, recorded as gates record them."""

        async def record() -> None:
            async with connect(self.ends.warehouse_address, side="warehouse") as warehouse:
                number = await runs.open_run(warehouse, "transform", "", None, None)
                await ledger.record_checks(warehouse, number, gate, [(dataset, "row count", None, outcome, "1", "")])
                await runs.close_run(warehouse, number, "refused" if outcome == "failed" else "done")

        self.wait_for(record())

    # -- alerts

    def watch(self, *checks: Callable[[Round], Any]) -> None:
        """From now on the watch makes these checks in each round."""
        self.it.watch.checks = [Check(f"check {number}", each) for number, each in enumerate(checks, 1)]
        self.round()

    def round(self, later: timedelta = timedelta(seconds=10)) -> None:
        """A round of the watch, some time later."""
        self.wait_for(self.it.rounds(1, later))

    def open(self) -> list[str]:
        """`name subject` of what is open."""
        return [row[0] for row in self.raw(OPEN)]

    def told_directly(self) -> list[str]:
        """`name subject` of what was sent directly, and whose end was not."""
        ended = [line.removeprefix("resolved ") for line in self.it.told if line.startswith("resolved ")]
        opened = [line.removeprefix("opened ") for line in self.it.told if line.startswith("opened ")]
        return [about for about in opened if about not in ended]

    def id_of(self, name: str, subject: str) -> str:
        """The number of the newest such alert."""
        found = "select max(alert_id)::text from ops.alerts where name = %(name)s and subject = %(subject)s"
        return str(self.raw(found, {"name": name, "subject": subject})[0][0])

    # -- somebody follows a page

    def follow(
        self,
        name: str,
        subject: str,
        *,
        alert: str | None = None,
        direct: bool = False,
        hands: Mapping[int, Hand] | None = None,
        codes: Mapping[int, int] | None = None,
        **values: str,
    ) -> None:
        """Follow the page of an alert that is open, step by step: at its end, the alert is resolved.

        `hands`: what a person does at a step elsewhere; a step's commands follow it. `codes`: the exit code of a step's
        commands, if it is not 0. `values` are put in place of words in capital letters.
        `alert`: the alert's name, for the page of a class. `direct`: it is not in the warehouse, but was sent directly.
        """
        about = f"{alert or name} {subject}"
        is_open = self.told_directly if direct else self.open
        assert about in is_open(), f"the exercise did not cause {about}: {is_open()}"
        source, _, table = subject.partition(".")
        at_hand = dict(hands or {})
        known = {"SOURCE": source, "TABLE": table, "REASON": "a test", **values}
        if not direct:
            known.setdefault("ID", self.id_of(alert or name, subject))
        for step in page(name).steps:
            if (hand := at_hand.pop(step.number, None)) is not None:
                hand()
            for block in step.blocks:
                self._do(step, block, known, (codes or {}).get(step.number, 0))
        assert not at_hand, f"the page of {name} has no step {sorted(at_hand)}"
        self.round()
        self.round()  # what a round finds at its end is recorded by the next one
        assert about not in is_open(), f"somebody followed all steps, and {about} is still open"

    def _do(self, step: Step, block: Block, known: Mapping[str, str], code: int) -> None:
        if block.language == "sql":
            said, statement = " ".join(step.text.split()), block.filled(known)
            if "as an administrator" not in said:
                self.raw(statement)
            elif "in Prefect's database" in said:
                self.as_admin(statement, replace(self.ends.warehouse, name="prefect"))
            else:
                self.as_admin(statement)
            return
        for line in block.filled(known).splitlines():
            self.run(line, code)

    def run(self, line: str, code: int = 0) -> str:
        """A command, as somebody types it; what it printed."""
        for command, do in self.stands_for.items():
            if line == command or (command.endswith(" ") and line.startswith(command)):
                do(shlex.split(line.removeprefix(command)))
                return ""
        program, *arguments = shlex.split(line)
        assert program == "medallion", line
        done = CliRunner().invoke(app, arguments)
        ended = getattr(done.exception, "exit_code", done.exit_code)
        said = next((each for beginning, each in _SAY.items() if line.startswith(beginning)), 0)
        assert ended in {code, said}, f"{line}: exit code {ended}\n{done.output}{done.exception!r}"
        return str(done.output)


def condition_while(
    holds: Sequence[object], name: str, subject: str, severity: str = "warning"
) -> Callable[[Round], Any]:
    """A check that finds this for as long as there is something in `holds`."""

    async def look(_: Round) -> list[Condition]:
        return [Condition(name, subject, severity, "something is wrong", "do something")] if holds else []

    return look


def ago(**time: float) -> datetime:
    """A moment before now."""
    return datetime.now(UTC) - timedelta(**time)


@dataclass
class Exercises:
    """Which page is followed by which test."""

    of: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str) -> Callable[[Any], Any]:
        def register(test: Any) -> Any:
            assert name not in self.of, f"two exercises of {name}"
            self.of[name] = f"{test.__module__}::{test.__name__}"
            return test

        return register


exercise = Exercises()
