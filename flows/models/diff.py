"""Diff of a pull request: what it changes in the warehouse, before it is merged.

state of the last full build → build modified models and everything downstream in shadow schemas → compare with the
shared tables → report in Markdown → drop the schemas, also after a failure
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from flows.access import addresses
from flows.models.compare import Address, compare
from flows.models.diff_report import ModelChange, Review
from flows.models.manifest import Relation
from flows.models.private_schemas import drop_private, prefix_for
from flows.models.project import DBT_PROJECT, BuiltNode
from flows.models.shadow_build import ShadowBuild
from flows.models.state import fetch_state, state_in
from flows.observe.progress import report

# Modified models and everything downstream.
_CHANGED = "state:modified+"


async def diff(
    name: str, *, state_folder: Path | None = None, keep: bool = False, project: Path = DBT_PROJECT
) -> Review:
    """Build what differs from the last full build in shadow schemas, and compare, as the reviewer role.

    The schemas `pr_<name>__…` are dropped before and afterwards, also after a failure; `keep` keeps them.

    Raises:
        ConfigurationError: there is no full build to compare with, or the name is not valid for schemas.
    """
    began = time.monotonic()
    prefix = prefix_for("pr", name)
    state = await fetch_state(addresses.reviewer()) if state_folder is None else state_in(state_folder)
    await _drop(prefix)  # left behind by a killed run
    dropped: list[str] = []
    try:
        shadow = ShadowBuild(prefix, state, project, addresses.reviewer())
        with _told("build what was modified"):
            built = await shadow.build([_CHANGED], shadow.selected([_CHANGED]))
        changes: list[ModelChange] = []
        if not built.problem:
            with _told("compare"):
                changes = await _changes(shadow, built.nodes)
    finally:
        if not keep:
            dropped = await _drop(prefix)
    return Review(
        name=name,
        run_id=state.run_id,
        built_at=state.started_at,
        moved=state.changed,
        changes=tuple(changes),
        nodes=built.nodes,
        problem=built.problem,
        seconds=time.monotonic() - began,
        dropped=tuple(dropped),
    )


async def clean(name: str) -> list[str]:
    """Drop the schemas of a pull request: after it is closed, or its diff was killed. Returns their names."""
    return await _drop(prefix_for("pr", name))


async def _drop(prefix: str) -> list[str]:
    async with addresses.connect(addresses.reviewer(), side="warehouse") as warehouse:
        return await drop_private(warehouse, prefix)


@contextlib.contextmanager
def _told(step: str) -> Iterator[None]:
    report(step, "began")
    began = time.monotonic()
    try:
        yield
    except BaseException:
        report(step, "failed")
        raise
    report(step, "done", f"{time.monotonic() - began:.1f} s")


async def _changes(shadow: ShadowBuild, nodes: tuple[BuiltNode, ...]) -> list[ModelChange]:
    now, shared = shadow.manifest(), shadow.state.manifest
    modified = set(shadow.selected(["state:modified"]).listed)
    changes = []
    async with addresses.connect(shadow.address, side="warehouse") as warehouse:
        for node in nodes:
            if node.unique_id not in now.relations:
                continue
            relation, known = now.relations[node.unique_id], shared.relations.get(node.unique_id)
            change = "new" if known is None else "modified" if node.unique_id in modified else "downstream"
            difference = None
            if node.status == "success":
                before = _address(known) if known else None
                difference = await compare(warehouse, before, _address(relation), relation.key)
            changes.append(ModelChange(relation.name, relation.layer, change, node.status, difference))
        for unique_id, known in shared.relations.items():
            if unique_id not in now.relations and known.kind != "source":
                gone = await compare(warehouse, _address(known), None)
                changes.append(ModelChange(known.name, known.layer, "removed", "", gone))
    return changes


def _address(relation: Relation) -> Address:
    return relation.schema, relation.identifier
