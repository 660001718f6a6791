"""Deployment: read the server → plan → confirm → open a record → apply the changes one by one → close the record.

A deployment that died is run again: completed changes are found unchanged, the rest is applied.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from blocks.alerts import NAME as ALERTS
from blocks.alerts import notification
from blocks.lookup import document_name, stored
from blocks.types import AlertChannel
from deployments import records
from deployments.declared import Target, declared, is_wanted_block, missing_blocks
from deployments.documents import configured
from deployments.environments import Environment
from deployments.plan import Change, Key, pending, plan
from deployments.records import Record
from deployments.refusals import (
    Seen,
    refuse_another_environment,
    refuse_another_type,
    refuse_sqlite,
    refuse_stale,
)
from deployments.resource import Resource
from deployments.server import Server, connected
from deployments.work_pools import work_pool
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT, settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of the command line. None means as in the last deployment, or as declared."""

    environment: Environment
    pool: str | None = None
    image: str | None = None
    base_job_template: Path | None = None
    version: str | None = None
    schedules: bool | None = None
    root: Path = PROJECT_ROOT


@dataclass(frozen=True, slots=True)
class Prospect:
    """The plan of a deployment or rollback: everything shown before a change."""

    address: str
    is_cloud: bool
    record: Record
    changes: tuple[Change, ...]
    seen: Seen = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()

    @property
    def pending(self) -> list[Change]:
        """The changes that write."""
        return pending(self.changes)


@dataclass(frozen=True, slots=True)
class Session:
    """A server, the block documents with values here, and the alert channel, if any."""

    server: Server
    blocks: tuple[tuple[str, Any], ...]
    channel: AlertChannel | None


@contextmanager
def session() -> Iterator[Session]:
    """A session with the configured Prefect API.

    Raises:
        ConfigurationError: no server is configured, or the embedded stack's file cannot be read.
    """
    documents = configured()
    with connected({}) as server:
        channel = next((block for _, block in documents if isinstance(block, AlertChannel)), None)
        if channel is None:
            present = stored(AlertChannel, "alerts")
            channel = present if isinstance(present, AlertChannel) else None
        named = [*documents, *([(ALERTS, notification(channel))] if channel else [])]
        server.fill({f"{block.get_block_type_slug()}/{document_name(name)}": block for name, block in named})
        yield Session(server, tuple(documents), channel)


def prospect(session: Session, choice: Choice, *, remove: bool = False, overrule: bool = False) -> Prospect:
    """Read the server and plan a deployment. Changes nothing.

    Raises:
        ConfigurationError: the server is another environment's or on SQLite, a pool has another type, or a choice is
            impossible.
    """
    server, environment = session.server, choice.environment
    refuse_another_environment(server, environment)
    refuse_sqlite(server, environment)
    history = records.read_records(server, environment.name)
    latest = history[0] if history else None
    chosen = choice.schedules if choice.schedules is not None or latest is None else latest.schedules
    if chosen is not None:
        environment = replace(environment, active=chosen)
    pool = choice.pool or (latest.pool if latest and latest.pool in environment.work_pools else None)
    pool = pool or environment.work_pools[0]
    target = Target(
        environment,
        _declared_pool(pool),
        version=choice.version or version_of(choice.root),
        root=choice.root,
        image=choice.image or (latest.image if latest else None),
        base_job_template=_template(choice.base_job_template),
    )
    wanted = declared(target, list(session.blocks), session.channel)
    record = Record(
        environment=environment.name,
        version=target.version,
        at=records.now(),
        status="begun",
        pool=pool,
        image=target.image,
        resources=records.recorded(wanted),
        owned=frozenset(),
        schedules=chosen,
    )
    found = _prospect(session, record, wanted, history, remove=remove, overrule=overrule)
    notes = missing_blocks(_present_blocks(session), secrets_prefix=settings().secrets_prefix)
    if session.channel is None:
        more = [
            "no block alerts: set MEDALLION_ALERT_WEBHOOK_URL and deploy again; without it, failures are not reported"
        ]
    else:
        more = []
    if not settings().has_backup_key:
        more.append(
            "no backup key here: if the workers have none either, backup and drill runs end as NotConfigured; "
            "set MEDALLION_BACKUP_KEY_FILE for them (docs/disaster-recovery.md)"
        )
    if not environment.active:
        more.append(
            f"nothing starts automatically in {environment.name}: schedules and their automations are off; "
            "--schedules switches them on"
        )
    return replace(found, notes=(*notes, *more))


def rollback(session: Session, environment: Environment, *, to: str | None = None, remove: bool = False) -> Prospect:
    """Read the server and plan the restore of an earlier version's deployments. Changes nothing.

    `to` is a version or a prefix of one; None is the version before the current one. Blocks are not changed.

    Raises:
        ConfigurationError: the version was not deployed, or there is none before this one.
    """
    refuse_another_environment(session.server, environment)
    history = records.read_records(session.server, environment.name)
    chosen = _chosen(history, to, environment)
    record = replace(
        chosen, id=None, at=records.now(), status="begun", puts_back=chosen.version, version=chosen.version
    )
    return _prospect(session, record, list(chosen.resources), history, remove=remove, only_recorded=True)


def apply(session: Session, found: Prospect, on_change: Callable[[Change], None]) -> None:
    """Apply the planned changes in order, reporting each.

    Raises:
        ConfigurationError: the server refused one. Earlier ones are applied; running again applies the rest. Or the
            server has changed since the plan; then nothing is changed.
    """
    server = session.server
    refuse_stale(server, found.record.environment, found.seen)
    record = records.begin(server, found.record)
    removed: set[Key] = set()
    for change in found.pending:
        on_change(change)
        if change.action == "remove":
            server.remove(change.resource)
            removed.add(change.resource.key)
        else:
            server.write(change.resource)
    records.close(server, replace(record, owned=record.owned - removed))


def version_of(root: Path) -> str:
    """The deployed version, from git: a tag or a commit, with -dirty if files differ; else the package's version."""
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--tags", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else installed_version("medallion-platform")


def _prospect(
    session: Session,
    record: Record,
    wanted: list[Resource],
    history: list[Record],
    *,
    remove: bool,
    overrule: bool = False,
    only_recorded: bool = False,
) -> Prospect:
    server = session.server
    last = next((entry.last for entry in history if entry.status == "done"), {})
    owned = history[0].owned if history else frozenset()
    keys = {resource.key for resource in wanted} | owned
    held = server.held(keys, last)
    refuse_another_type(wanted, held)
    # A record contains no block, so a rollback must not treat blocks as undeclared.
    kept = {key for key in owned if key[0] == "block" and (only_recorded or is_wanted_block(key[1]))}
    changes = plan(
        wanted,
        held,
        last=last,
        owned=owned - kept,
        remove=remove,
        take_back=overrule,
        unsupported=server.unsupported,
    )
    created = frozenset(change.resource.key for change in changes if change.action == "create")
    still_there = frozenset(key for key in owned if key in held)
    return Prospect(
        server.address,
        server.is_cloud,
        replace(record, owned=still_there | created),
        tuple(changes),
        seen=Seen(frozenset(keys), dict(held), dict(last), history[0].id if history else None),
    )


def _chosen(history: list[Record], to: str | None, environment: Environment) -> Record:
    done = [record for record in history if record.status == "done"]
    originals = [record for record in done if record.puts_back is None]
    if to is not None:
        found = [record for record in originals if record.version.startswith(to)]
        if found:
            return next((record for record in found if record.version == to), found[0])
        raise _no_version(f"no version {to!r} was deployed to {environment.name}", originals)
    if done:
        # After a rollback, the next one starts from the restored version, not from the abandoned one.
        place = next((at for at, record in enumerate(originals) if record.version == done[0].version), 0)
        for record in originals[place:]:
            if record.version != done[0].version:
                return record
    raise _no_version(f"no earlier version was deployed to {environment.name}", originals)


def _no_version(what: str, known: list[Record]) -> ConfigurationError:
    versions = ", ".join(dict.fromkeys(record.version for record in known)) or "none"
    error = ConfigurationError(what, where="medallion rollback deployments", fix=f"versions kept: {versions}")
    error.exit_code = 2
    return error


def _declared_pool(name: str) -> Any:
    try:
        return work_pool(name)
    except KeyError:
        error = ConfigurationError(
            f"work pool {name!r} is not declared",
            where="--pool",
            fix="declare it in deployments/work_pools.py, and add it to an environment",
        )
        error.exit_code = 2
        raise error from None


def _template(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        template = json.loads(path.read_text(encoding="utf-8"))
        if not {"job_configuration", "variables"} <= set(template):
            raise ValueError
    except (OSError, ValueError, TypeError):
        error = ConfigurationError(
            "the file is not a base job template",
            where=str(path),
            fix="pass a JSON file as `pulumi stack output base_job_template --json` writes it",
        )
        error.exit_code = 2
        raise error from None
    return dict(template)


def _present_blocks(session: Session) -> set[str]:
    names = {document_name(name) for name, _ in session.blocks}
    return names | session.server.block_names()
