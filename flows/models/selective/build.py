"""One selective build: look → decide → begin → (dbt) → end. Without Prefect, and whoever runs dbt.

build = SelectiveBuild(run_id, project_folder, loader, transformer)
await build.look(tables)                      positions, before anything is read
decision = await build.decide(project)        what is due, and why
await build.begin(decision)                   from here on the selected nodes are not known to be good
...                                           dbt builds `decision.selection`
await build.end(decision, finished)           a kill before this leaves them so
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.models.selective import positions, project_state
from flows.models.selective.cutoff import Cutoff
from flows.models.selective.decision import UNKNOWN, Built, Decision, Seen, decide
from flows.models.selective.nodes import Project
from flows.models.selective.positions import Name, Position
from flows.models.selective.surroundings import surroundings
from flows.state import model_builds
from flows.state.model_builds import ModelBuild
from flows.values.connection import DatabaseConnection
from flows.values.correlation import application_name

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_GOOD = frozenset({"success", "pass", "warn", "no-op"})
# Sessions of dbt end after its invocation returns; their counters of written rows arrive with their end.
_SESSIONS_END_SECONDS = 10
_POLL_SECONDS = 0.02
_SESSIONS = "select count(*) from pg_stat_activity where application_name = $1 and datname = current_database()"


@dataclass
class SelectiveBuild:
    """A build of the shared schemas by run `run_id`. `everything`: why all of it is built, if it is.

    `loader` may read and write schema `ops`; `transformer` builds, and may read all inputs. `raw` are the positions of
    the tables given to `look`, `builds` the records of earlier builds, `as_of` the newest load of each source table:
    once this build is done, all models have its rows.
    """

    run_id: int
    folder: Path
    loader: DatabaseConnection
    transformer: DatabaseConnection
    everything: str = ""
    builds: dict[str, ModelBuild] = field(default_factory=dict)
    raw: dict[Name, Position] = field(default_factory=dict)
    as_of: dict[str, int] = field(default_factory=dict)
    state: str = ""
    _interrupted: bool = False
    _is_selection: bool = False
    _is_stored: bool = False

    async def look(self, names: Sequence[Name] = ()) -> None:
        """Read what was built, and positions of tables. What is written to them later counts for the next build."""
        self.state = project_state.state_of(self.folder, self.transformer.url)
        async with self._sessions() as (ops, warehouse):
            self.as_of = await positions.newest_loads(ops)
            self.builds, self._interrupted = await model_builds.read_builds(ops)
            self.raw = await positions.of_inputs(ops, warehouse, names)
        if self._interrupted and not self.everything:
            self.everything = "an earlier build of a selection did not finish"

    def stored_project(self) -> Project | None:
        """The project as stored; None if it has changed since, or was never stored: dbt has to parse it."""
        project = project_state.stored(self.builds, self.state)
        self._is_stored = project is not None
        return project

    def parsed_project(self, manifest: Path) -> Project:
        """The project from the manifest.json that dbt has written now."""
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return project_state.parsed(content, self.folder, self.transformer.url)

    async def decide(self, project: Project) -> Decision:
        """What is to be built, and why."""
        async with self._sessions() as (ops, warehouse):
            read = [name for name in project.relations.values() if name not in self.raw]
            inputs = {**await positions.of_inputs(ops, warehouse, read), **self.raw}
            relations = await positions.of_relations(warehouse, _relations(project))
        around = await surroundings(self.transformer.url)
        built = {
            name: Built(row.is_good, row.fingerprint, row.inputs, row.relation, row.position)
            for name, row in self.builds.items()
            if name in project.nodes and row.run_id is not None
        }
        return decide(project, built, Seen(inputs, relations, around), self.everything)

    async def begin(self, decision: Decision, *, selection: bool = False) -> None:
        """Mark what will be built, and store the project. `selection`: a user chose it, and only dbt knows the nodes.

        If nothing is due, a project that has changed is stored all the same: otherwise each run would parse it again.
        """
        if self._is_stored and not decision.reasons and not selection:
            return
        self._is_selection = selection
        async with addresses.connect(self.loader, side="warehouse") as ops:
            marked = [] if selection else list(decision.reasons)
            await model_builds.begin_build(ops, self.state, project_state.to_store(decision.project), marked)
            if selection:
                await model_builds.begin_selection(ops)

    async def end(self, decision: Decision, ran: Mapping[str, Ran], cutoff: Cutoff | None = None) -> None:
        """Record each node that dbt ran, and whether it is good; a failed test stays to be tried again.

        `cutoff` knows which of them were left as they were, and whose rows are the same as before.
        """
        known = cutoff or Cutoff(decision, self.run_id, self.transformer.url)
        known.positions |= {
            name: str(self.run_id)
            for name, one in ran.items()
            if one.is_good and name not in known.positions and name not in known.left and name in decision.project.nodes
        }
        async with self._sessions() as (ops, warehouse):
            await _sessions_end(warehouse)
            relations = await positions.of_relations(warehouse, _relations(decision.project))
            nodes = {name: one for name, one in ran.items() if name in decision.project.nodes}
            rows = {name: self._record(decision, known, relations, name, one) for name, one in nodes.items()}
            # Of an earlier selection that did not finish, this one has not built all.
            settles = not (self._is_selection and self._interrupted)
            await model_builds.end_build(ops, rows, settles_selection=settles)

    def _record(
        self, decision: Decision, cutoff: Cutoff, relations: Mapping[Name, Position], name: str, ran: Ran
    ) -> ModelBuild:
        node, left = decision.project.nodes[name], name in cutoff.left
        undeclared = {} if left else dict.fromkeys(decision.project.undeclared(name, ran.compiled), UNKNOWN)
        return ModelBuild(
            project=self.state,
            node={},
            run_id=self.builds[name].run_id if left else self.run_id,
            is_good=ran.is_good or left,
            fingerprint=node.fingerprint,
            inputs=decision.inputs_after(name, cutoff.positions, cutoff.left) | undeclared,
            # What was left is as this run found it at its begin: whoever wrote to it since is to be noticed.
            relation=self.builds[name].relation if left else _text(relations.get((node.schema, node.identifier))),
            position=decision.built[name].position if left else cutoff.positions.get(name, ""),
        )

    @asynccontextmanager
    async def _sessions(self) -> AsyncIterator[tuple[Connection[Record], Connection[Record]]]:
        async with (
            addresses.connect(self.loader, side="warehouse") as ops,
            addresses.connect(self.transformer, side="warehouse") as warehouse,
        ):
            yield ops, warehouse


@dataclass(frozen=True, slots=True)
class Ran:
    """A node that dbt ran: whether it is good, and what its code was compiled to."""

    is_good: bool
    compiled: str = ""


def finished(results: Path) -> dict[str, Ran]:
    """The nodes of dbt's run_results.json that it ran. Skipped ones were not run."""
    if not results.exists():
        return {}
    content = json.loads(results.read_text(encoding="utf-8"))["results"]
    return {
        each["unique_id"]: Ran(each["status"] in _GOOD, each.get("compiled_code") or "")
        for each in content
        if each["status"] != "skipped"
    }


def _relations(project: Project) -> list[Name]:
    return [(node.schema, node.identifier) for node in project.nodes.values() if node.has_relation]


def _text(position: Position | None) -> str:
    return "" if position is None else position.text or ""


async def _sessions_end(warehouse: Connection[Record]) -> None:
    until = time.monotonic() + _SESSIONS_END_SECONDS
    name = application_name("medallion-dbt")
    while True:
        if not await warehouse.fetchval(_SESSIONS, name) or time.monotonic() > until:
            return
        await asyncio.sleep(_POLL_SECONDS)


def selection_of(names: Iterable[str]) -> list[str]:
    """dbt's arguments that build exactly these nodes."""
    return ["--indirect-selection", "empty", "--select", *names]
