"""The fingerprint of the dbt project, from the files that decide what is built; and the commit of the code."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from flows.models.project import DBT_PROJECT
from flows.values.settings import PROJECT_ROOT, settings

_KINDS = {".sql", ".yml", ".yaml", ".csv"}
_NOT_OURS = {"target", "logs", "dbt_packages"}


def fingerprint(project: Path = DBT_PROJECT) -> str:
    """Sixteen hex digits, the same on every machine; they change if any file of the project changes."""
    digest = hashlib.sha256()
    for path in sorted(project.rglob("*")):
        within = path.relative_to(project)
        if path.suffix in _KINDS and not _NOT_OURS & set(within.parts):
            digest.update(f"{within.as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The commit of this clone, or MEDALLION_COMMIT if there is no clone, as in an image."""
    if settings().commit:
        return settings().commit
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
