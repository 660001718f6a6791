"""A transform of what has changed, between gates that verify what has changed. What is built, and why, is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.models.project import DBT_PROJECT
from flows.models.selective import contracts, positions
from flows.models.selective.build import SelectiveBuild, finished
from flows.models.selective.contracts import Contract
from flows.models.selective.cutoff import Cutoff, cutting_off
from flows.models.selective.decision import Decision, by_reason
from flows.models.selective.positions import Name, Position
from flows.observe.artifacts import NodeLine
from flows.observe.progress import report
from flows.state import model_builds
from flows.tasks import builds, gates

Gate = Literal["raw", "gold"]


@dataclass
class Transforming:
    """One transform of the shared schemas. `everything`: why all of it is built and verified, if it is.

    `built` and `unchanged` count models after `build`.
    """

    run_id: int
    everything: str = ""
    built: int = 0
    unchanged: int = 0
    _build: SelectiveBuild = field(init=False)
    _contracts: dict[Gate, list[Contract]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        loader, transformer = addresses.warehouse(), addresses.warehouse("transformer")
        self._build = SelectiveBuild(self.run_id, DBT_PROJECT, loader, transformer, self.everything)

    def look(self) -> None:
        """Read what was built, and the positions of raw: before gate raw, so that models read no older rows."""
        asyncio.run(self._build.look([each.name for each in self.contracts("raw")]))

    @property
    def as_of(self) -> Mapping[str, int]:
        """The loads whose rows all models have once this is done, by source table."""
        return self._build.as_of

    def contracts(self, gate: Gate) -> list[Contract]:
        """The contracts of a gate that can be read, read once. The first call must not be in a running event loop."""
        if gate not in self._contracts:
            read = (contracts.read_contract(path, gate) for path in gates.contracts_of(gate))
            self._contracts[gate] = [each for each in read if each is not None]
        return self._contracts[gate]

    def decide(self) -> Decision:
        """Decide what to build. dbt is imported only if the project has changed since it was stored."""
        project = self._build.stored_project()
        if project is None:
            manifest = builds.parse()
            if manifest is None:
                builds.build()  # raises what is wrong with the project, in the words of a build
            project = self._build.parsed_project(builds.target_of("") / "manifest.json")
        return asyncio.run(self._build.decide(project))

    def build(self, decision: Decision, *, select: str | None = None, full_refresh: bool = False) -> list[NodeLine]:
        """Build what was decided, or the user's selection, and record what was finished, whatever happens.

        Raises the same as `builds.build`.
        """
        asyncio.run(self._build.begin(decision, selection=select is not None))
        if select is None and not decision.reasons:
            self._report(decision, [])
            return []
        results = builds.target_of("") / "run_results.json"
        results.unlink(missing_ok=True)  # of an earlier build: they would be recorded as of this one
        only = decision.selection if select is None else None
        cutoff = Cutoff(decision, self.run_id, addresses.transformer().url) if only is not None else None
        try:
            with cutting_off(cutoff):
                nodes = builds.build(select=select, only=only, full_refresh=full_refresh)
        finally:
            asyncio.run(self._build.end(decision, finished(results), cutoff))
        if select is None:
            self._report(decision, nodes, cutoff.left if cutoff is not None else ())
        return nodes

    def _report(self, decision: Decision, nodes: Sequence[NodeLine], left: Collection[str] = ()) -> None:
        self.built, total = decision.counts(left)
        self.unchanged = total - self.built
        built = self.built
        words = f"{total} models: {built} built, {total - built} unchanged"
        causes = by_reason(decision.reasons, decision.project)
        report("models", "done", words)
        get_run_logger().info("%s%s", words, "".join(f"\n  {cause}" for cause in causes))
        if not nodes:
            text = f"# dbt build\n\n{words}.\n"
            create_markdown_artifact(key="dbt-build", markdown=text, description="Nodes of the dbt build")

    def pass_gate_raw(self) -> list[dict[str, Any]]:
        """Gate raw, on the tables as they were when this looked. Raises the same as `gates.pass_gate`."""
        return self._pass_gate("raw", self._build.raw)

    def pass_gate_gold(self) -> list[dict[str, Any]]:
        """Gate gold. Raises the same as `gates.pass_gate`."""
        names = [each.name for each in self.contracts("gold")]

        async def read() -> dict[Name, Position]:
            async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
                return await positions.of_relations(warehouse, names, inputs=True)

        return self._pass_gate("gold", asyncio.run(read()))

    def _pass_gate(self, gate: Gate, seen: Mapping[Name, Position]) -> list[dict[str, Any]]:
        """Verify the contracts whose table, text or time asks for it; the results of the others hold for this run."""
        held = {} if self.everything else self._held(gate, seen)

        def checked(results: Sequence[Mapping[str, Any]]) -> None:
            asyncio.run(self._record_gate(gate, seen, results, held))

        return gates.pass_gate(gate, self.run_id, held=list(held), checked=checked)

    def _held(self, gate: Gate, seen: Mapping[Name, Position]) -> dict[Path, int]:
        """The contracts that need not be verified again, with the run that verified them last."""
        now = datetime.now(UTC)
        return {
            each.path: built.run_id or 0
            for each in self.contracts(gate)
            if (built := self._build.builds.get(each.node_id)) is not None
            and contracts.holds(each, built, seen.get(each.name), now)
        }

    async def _record_gate(
        self,
        gate: Gate,
        seen: Mapping[Name, Position],
        results: Sequence[Mapping[str, Any]],
        held: Mapping[Path, int],
    ) -> None:
        now = datetime.now(UTC)
        by_dataset: dict[str, list[Mapping[str, Any]]] = {}
        for result in results:
            by_dataset.setdefault(result["dataset"], []).append(result)
        rows = {
            each.node_id: contracts.checked(each, seen.get(each.name), by_dataset[each.dataset], self.run_id, now)
            for each in self.contracts(gate)
            if each.dataset in by_dataset
        }
        again = {each.dataset: held[each.path] for each in self.contracts(gate) if each.path in held}
        async with addresses.connect(addresses.warehouse(), side="warehouse") as ops:
            await model_builds.end_build(ops, rows, settles_selection=False)
            await model_builds.copy_checks(ops, self.run_id, gate, again)
