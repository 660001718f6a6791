"""What a transform would build now, for `medallion plan`: decided from the warehouse alone, without dbt."""

from __future__ import annotations

from dataclasses import dataclass

from flows.access import addresses
from flows.models.project import DBT_PROJECT
from flows.models.selective.build import SelectiveBuild
from flows.models.selective.decision import by_reason


@dataclass(frozen=True, slots=True)
class Pending:
    """Models that would be selected, of how many, and the causes in words. `models` is None if only dbt can tell."""

    models: int | None
    total: int
    causes: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """One line for the whole, one for each cause."""
        if self.models is None:
            return ["Models: the project has changed since the last transform, which will tell what that builds"]
        if not self.models:
            return [f"Models: all {self.total} are up to date with raw"]
        return [f"Models: {self.models} of {self.total} would be built", *(f"  {cause}" for cause in self.causes)]


async def pending_models() -> Pending | None:
    """What a transform would build with raw as it is now; None if no transform has run yet. Changes nothing."""
    async with addresses.connect(addresses.warehouse(), side="warehouse") as ops:
        if not await ops.fetchval("select to_regclass('ops.model_builds') is not null"):
            return None
    build = SelectiveBuild(0, DBT_PROJECT, addresses.warehouse(), addresses.warehouse("transformer"))
    await build.look()
    if not build.builds:
        return None
    project = build.stored_project()
    if project is None:
        return Pending(None, 0)
    decision = await build.decide(project)
    built, total = decision.counts()
    return Pending(built, total, tuple(by_reason(decision.reasons, project)))
