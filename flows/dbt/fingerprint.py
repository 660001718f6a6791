"""Which models these are: one hash over the files of the dbt project that decide what is built."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flows.dbt.project import DBT_PROJECT

_KINDS = {".sql", ".yml", ".yaml", ".csv"}
_NOT_OURS = {"target", "logs", "dbt_packages"}


def fingerprint(project: Path = DBT_PROJECT) -> str:
    """Sixteen hex digits, the same on every machine; another as soon as a file of the project differs by a byte."""
    digest = hashlib.sha256()
    for path in sorted(project.rglob("*")):
        within = path.relative_to(project)
        if path.suffix in _KINDS and not _NOT_OURS & set(within.parts):
            digest.update(f"{within.as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
