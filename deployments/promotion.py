"""Promotion of a commit: facts of the previous environment → gates → approval → record.

It only writes `ops.promotions` of the target environment. `deploy` and a release apply the change.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.access import addresses
from flows.declare.promises import limits_of
from flows.models.fingerprint import commit, fingerprint
from flows.observe.junit import read_test_results
from flows.sources import SOURCES
from flows.state import ledger, promotions
from flows.state.promotions import LastBuild
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT, settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Gates of which a person approves the very text: which results, which build, which columns go.
_EXACT = frozenset({"tests", "built", "gold", "schema ops"})
Outcome = Literal["passed", "told", "refused"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one gate. `told` passes, with a note to read."""

    gate: str
    outcome: Outcome
    evidence: str


@dataclass(frozen=True)
class Promotion:
    """A commit to be promoted from one environment to the next."""

    environment: str
    promoted_from: str
    commit: str
    models: str
    gates: tuple[GateResult, ...]
    pending_upgrade: bool

    @property
    def open(self) -> bool:
        """Whether no gate refuses."""
        return all(gate.outcome != "refused" for gate in self.gates)

    def changed_since(self, shown: Promotion) -> list[str]:
        """What is no longer as it was shown to the person who approves: the plan's commit, models, gates by name.

        A gate that passes may tell other numbers, such as hours since a load; the evidence of tests may not.
        """
        found = [
            name for name in ("commit", "models", "pending_upgrade") if getattr(self, name) != getattr(shown, name)
        ]
        before = {gate.gate: gate for gate in shown.gates}
        for gate in self.gates:
            was = before.get(gate.gate)
            if was is None or was.outcome != gate.outcome or (gate.gate in _EXACT and was.evidence != gate.evidence):
                found.append(gate.gate)
        return [*found, *(before.keys() - {gate.gate for gate in self.gates})]


async def examine(
    environment: str, promoted_from: str, origin: DatabaseConnection, evidence: Path | None, *, accept_changes: bool
) -> Promotion:
    """Every gate except the approval. `origin` is the previous environment's warehouse, as its transformer.

    Raises:
        ConfigurationError: the commit is not known, or the evidence cannot be read.
        WarehouseError: a warehouse does not respond, or is newer than this code.
    """
    sha, models = commit(), fingerprint()
    if sha is None:
        raise ConfigurationError(
            "the commit of this code is not known", where="promote", fix="run it in a clone, or set MEDALLION_COMMIT"
        )
    gates = [_tested(sha, evidence)]
    async with addresses.connect(origin, side="warehouse") as before:
        version = await ledger.known_version(before)
        if version != ledger.SCHEMA_VERSION:
            told = f"{promoted_from} has schema ops {version}, this code {ledger.SCHEMA_VERSION}: it has not run there"
            gates.append(GateResult("built", "refused", told))
        else:
            build = await promotions.last_build(before)
            gates += [_built(build, models, promoted_from), *_checked(build)]
            gates.append(_fresh(await promotions.hours_since_loads(before)))
            gates += await _trouble(before)
        gold_before = await promotions.gold_shape(before)
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as here:
        gates.append(_shape(await promotions.gold_shape(here), gold_before, environment, accept_changes))
        version = await ledger.known_version(here)
    pending = version not in (None, ledger.SCHEMA_VERSION)
    gates.append(_upgrade(version))
    return Promotion(environment, promoted_from, sha, models, tuple(gates), pending)


async def write_down(promotion: Promotion, approved_by: str | None, promoted_by: str) -> int:
    """Record the attempt in the target environment; returns its number.

    Raises:
        LoadLocked: schema ops must be upgraded first, and runs are active.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await promotions.record_promotion(
            warehouse,
            promotions.Attempt(
                environment=promotion.environment,
                promoted_from=promotion.promoted_from,
                outcome="promoted" if promotion.open and approved_by else "refused",
                commit=promotion.commit,
                models=promotion.models,
                approved_by=approved_by,
                promoted_by=promoted_by,
                gates=[asdict(gate) for gate in promotion.gates],
            ),
        )


def _tested(sha: str, evidence: Path | None) -> GateResult:
    changed = uncommitted()
    if changed:
        return GateResult("tests", "refused", f"{len(changed)} files differ from the commit: {_listed(changed)}")
    if evidence is None:
        return GateResult("tests", "refused", "test results are missing: --evidence junit-<commit>.xml")
    found = read_test_results(evidence, sha)
    counts = (
        f"{found.tests - found.skipped - found.failed:,} passed, {found.failed:,} failed, {found.skipped:,} skipped"
    )
    if not found.is_of(sha):
        of = (
            f"of commit {', '.join(name[:12] for name in found.named)}" if found.named else "of no commit that it names"
        )
        return GateResult("tests", "refused", f"{counts}, {of}, and this is {sha[:12]}")
    if found.problems:
        return GateResult("tests", "refused", f"{counts}, of commit {sha[:12]}, but {'; '.join(found.problems)}")
    told = f"{counts}, of commit {sha[:12]}, file {found.digest[:12]}"
    return GateResult("tests", "passed" if found.prove(sha) else "refused", told)


def uncommitted(clone: Path = PROJECT_ROOT) -> list[str]:
    """Files of a clone that are not as committed, new ones too: dbt builds a model that git does not know yet. An image
    tells its commit by a setting, and is no clone."""
    if settings().commit:
        return []
    done = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    return [line[3:] for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _built(build: LastBuild | None, models: str, promoted_from: str) -> GateResult:
    if build is None:
        return GateResult("built", "refused", f"{promoted_from} has built nothing yet")
    told = f"run {build.run_id} of {build.finished_at:%Y-%m-%d %H:%M} UTC is {build.status}"
    if build.status != "done":
        return GateResult("built", "refused", told)
    if build.models != models:
        return GateResult("built", "refused", f"{told}, of models {build.models}, not {models}")
    return GateResult("built", "passed", f"{told}: {build.nodes} nodes and dbt tests of these models")


def _checked(build: LastBuild | None) -> list[GateResult]:
    gates = []
    for gate in ("raw", "gold"):
        counts = dict(build.checks.get(gate, {})) if build else {}
        told = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(counts.items()))
        ok = bool(counts) and set(counts) <= {"passed", "warned"}
        outcome: Outcome = "refused" if not ok else "told" if "warned" in counts else "passed"
        gates.append(GateResult(f"gate {gate}", outcome, told or "no check was run"))
    return gates


def _fresh(hours: dict[tuple[str, str], float]) -> GateResult:
    late, never, oldest = [], [], 0.0
    for source in SOURCES:
        for table in source.tables:
            limit = limits_of(source, table)
            if limit is None:
                continue
            name, age = f"{source.name}.{table.name}", hours.get((source.name, table.name))
            if age is None:
                never.append(name)
                continue
            oldest = max(oldest, age)
            if age > limit.stop_hours:
                late.append(f"{name} ({age:,.0f} h, limit {limit.stop_hours} h)")
    if late or never:
        told = [f"too old: {_listed(late)}"] if late else []
        told += [f"never loaded: {_listed(never)}"] if never else []
        return GateResult("freshness", "refused", "; ".join(told))
    return GateResult("freshness", "passed", f"the oldest table was loaded {oldest:.1f} h ago")


async def _trouble(before: Connection[Record]) -> list[GateResult]:
    opened = await promotions.open_circuits(before)
    differing, equal = await promotions.comparisons(before)
    if differing:
        reconciliation = GateResult("reconcile", "refused", f"tables differ from their source: {_listed(differing)}")
    elif equal:
        reconciliation = GateResult("reconcile", "passed", f"{equal} tables match their source")
    else:
        reconciliation = GateResult("reconcile", "told", "no table was compared with its source yet")
    circuits = GateResult("circuits", "passed", "none is open")
    if opened:
        circuits = GateResult("circuits", "refused", f"open: {_listed(opened)}")
    return [circuits, reconciliation]


def _shape(
    here: dict[str, dict[str, str]], before: dict[str, dict[str, str]], environment: str, accept_changes: bool
) -> GateResult:
    """Columns are compared, not rows: two environments hold other data. Rows are compared by the release."""
    if not here:
        return GateResult("gold", "passed", f"{environment} has no gold yet")
    lost = [f"{table} goes" for table in here if table not in before]
    for table in here.keys() & before.keys():
        lost += [f"{table}.{column} goes" for column in here[table] if column not in before[table]]
        lost += [
            f"{table}.{column} becomes {before[table][column]}"
            for column, kind in here[table].items()
            if before[table].get(column, kind) != kind
        ]
    come = sum(table not in here for table in before)
    come_columns = sum(
        column not in here.get(table, {}) for table in before.keys() & here.keys() for column in before[table]
    )
    told = f"{come} tables and {come_columns} columns are added"
    if lost:
        return GateResult("gold", "told" if accept_changes else "refused", f"{_listed(sorted(lost))}; {told}")
    return GateResult("gold", "passed", f"nothing is removed, {told}")


def _upgrade(version: int | None) -> GateResult:
    if version is None:
        return GateResult("schema ops", "passed", "there is none yet, the first run creates it")
    if version == ledger.SCHEMA_VERSION:
        return GateResult("schema ops", "passed", f"version {version}, as this code needs")
    return GateResult("schema ops", "told", f"an upgrade from {version} to {ledger.SCHEMA_VERSION} is pending")


def _listed(names: Iterable[str] | Sequence[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
