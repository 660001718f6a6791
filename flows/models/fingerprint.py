"""The fingerprint of the dbt project, from the files that decide what is built; and the commit of the code."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Set
from pathlib import Path

from flows.models.project import DBT_PROJECT
from flows.models.project_files import declared_folders
from flows.values.settings import PROJECT_ROOT, settings

_KINDS = {".sql", ".yml", ".yaml", ".csv"}
# What dbt writes when somebody runs it in the project's folder. Folders of these names further down are the project's,
# and so is `dbt_packages`: its models and macros are built like any others.
_WRITTEN_BY_DBT = {"target", "logs"}


def fingerprint(project: Path = DBT_PROJECT) -> str:
    """Sixteen hex digits, the same on every machine; they change if any file of the project changes."""
    digest = hashlib.sha256()
    for path in project_files(project, _KINDS):
        digest.update(f"{path.relative_to(project).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def project_files(project: Path, kinds: Set[str]) -> list[Path]:
    """The project's files with one of these suffixes, sorted: all but those that dbt itself writes."""
    declared = declared_folders(project)
    written = set() if "." in declared else _WRITTEN_BY_DBT - declared
    return sorted(
        path
        for path in project.rglob("*")
        if path.suffix in kinds and path.is_file() and path.relative_to(project).parts[0] not in written
    )


def commit() -> str | None:
    """The commit of this clone, or MEDALLION_COMMIT if there is no clone, as in an image."""
    if settings().commit:
        return settings().commit
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
