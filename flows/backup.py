"""Scheduled flows backup and drill: a nightly backup, a weekly drill. They do the same as the commands.

They need PostgreSQL's programs on the worker, and the key and the store in its environment. Without a key, a run does
nothing and reports it in its state: a failure every night would hide the failures that matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.observe.markdown import cell
from flows.tasks import begin
from flows.tasks.correlation import correlated_run
from flows.values.settings import settings
from flows.verbs.find import choose

if TYPE_CHECKING:
    from flows.verbs.catch_up import CaughtUp
    from infra.backup.drill import Drill


@flow(name="backup", flow_run_name="backup", result_serializer="json", persist_result=True)
def backup(keep: int | None = None, keep_days: float | None = None) -> dict[str, Any] | State[Any]:
    """Back up the cluster; then delete backups that neither `keep` nor `keep_days` keeps. Returns the backup's facts.

    Without a key it ends in the state NotConfigured.

    Raises:
        MedallionError: see `infra.backup.errors`; then no backup counts, and none is deleted.
    """
    begin.begin()
    if not settings().has_backup_key:
        return _not_configured("backup", "No backup was made")
    from infra.backup import retention
    from infra.backup.catalog import Catalog
    from infra.backup.embedded import embedded_home
    from infra.backup.key import keys
    from infra.backup.store import open_store
    from infra.backup.take import take

    log, store = get_run_logger(), open_store()
    with correlated_run("backup"):
        made = take(store, keys(), home=embedded_home(), on_step=log.info)
        catalog = Catalog(store, made.system)
        expiry = retention.plan(catalog, keep=keep, days=keep_days)
        retention.expire(catalog, expiry)
    facts = {
        "backup": made.label,
        "cluster_bytes": made.cluster_bytes,
        "kept_bytes": made.kept_bytes,
        "seconds": round(made.seconds, 1),
        "kept": [each.label for each in expiry.kept],
        "expired": [each.label for each in expiry.expired],
    }
    lines = [
        ("cluster", f"{made.cluster_bytes / 1024**2:,.0f} MB, {made.kept_bytes / 1024**2:,.0f} MB sealed"),
        ("with the stack", "yes" if made.stack else "no"),
        ("stored in", store.place),
        ("took", f"{made.seconds:.1f} s"),
        ("kept", ", ".join(each.label for each in expiry.kept)),
        ("deleted", ", ".join(each.label for each in expiry.expired) or "none"),
    ]
    _show("backup", f"Backup {made.label}, verified", lines)
    return facts


@flow(name="drill", flow_run_name="drill", result_serializer="json", persist_result=True)
def drill(sources: list[str] | None = None, scratch: str | None = None) -> dict[str, Any] | State[Any]:
    """Recover the newest backup into a scratch folder, catch up with the sources (default: all), measure RPO and RTO.

    `scratch` is a folder with room for the cluster; default: the home. Returns the measurements. Without a key it ends
    in the state NotConfigured.

    Raises:
        TargetMissed: RPO or RTO is above its target, or the recovered cluster failed a check.
        MedallionError: there is nothing to recover from, or it cannot be recovered.
    """
    begin.begin()
    if not settings().has_backup_key:
        return _not_configured("drill", "No drill was run")
    from infra.backup import drill as drills
    from infra.backup.catalog import open_catalog
    from infra.backup.key import keys
    from infra.backup.store import open_store

    within = Path(scratch).expanduser().resolve() if scratch else settings().home
    log = get_run_logger()
    with correlated_run("drill"):
        done = drills.drill(
            open_catalog(open_store()),
            keys(),
            sources=choose(sources),
            within=within,
            on_step=log.info,
            on_table=lambda line: log.info("%s: %s, %s rows read", line.table, _outcome(line), f"{line.rows_read:,}"),
        )
    facts: dict[str, Any] = json.loads(json.dumps(done.facts(), default=str))
    _show("drill", f"Drill of backup {done.backup}: targets {'missed' if done.problems else 'met'}", _found(done))
    drills.refuse_missed(done)
    return facts


def _not_configured(key: str, what: str) -> State[Any]:
    """The state of a run without a key: visible in the list of runs, without an alert."""
    fix = "set MEDALLION_BACKUP_KEY_FILE in the worker's environment (docs/disaster-recovery.md)"
    get_run_logger().warning("%s: this worker has no backup key; %s", what, fix)
    _show(key, f"{what}: not configured", [("missing", "the backup key"), ("fix", fix)])
    return Completed(name="NotConfigured", message=f"{what}: this worker has no backup key; {fix}")


def _found(done: Drill) -> Iterator[tuple[str, str]]:
    """The facts of a drill, the worst first."""
    for problem in done.problems:
        yield "problem", problem
    yield "RPO", f"{done.rpo_seconds:.1f} s would be lost, target {done.rpo_target:g} s"
    yield "RTO", f"{done.rto_seconds:.1f} s until recovered, target {done.rto_target:g} s"
    for part, found, seconds in done.parts:
        yield part, f"{found}, {seconds:.1f} s"
    for check in done.checks:
        yield check.name, check.found
    for line in sorted(done.tables, key=lambda line: line.table):
        yield line.table, f"{_outcome(line)}, {line.rows_read:,} rows read"


def _outcome(line: CaughtUp) -> str:
    return line.error.what if line.error is not None else line.result


def _show(key: str, title: str, lines: Iterable[tuple[str, str]]) -> None:
    rows = "".join(f"| {cell(name)} | {cell(found)} |\n" for name, found in lines)
    create_markdown_artifact(
        key=key, markdown=f"# {title}\n\n| what | found |\n| --- | --- |\n{rows}", description=title
    )
