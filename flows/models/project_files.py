"""A dbt project reads the files in its folder, and no others.

dbt follows symbolic links, and paths of dbt_project.yml may lead anywhere: a model that is a link to
`/proc/self/environ` has the process's environment as its text, and the manifest keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flows.values.errors import DeclarationError

# dbt renders paths by Jinja; a plain name cannot become another one.
_PLAIN = re.compile(r"[\w .\-]+(?:/[\w .\-]+)*/?")


def refuse_outside_files(project: Path) -> None:
    """Refuse links and paths of the project that lead out of its folder.

    Raises:
        DeclarationError: there is one; it is named.
    """
    root = project.resolve()
    for path in project.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise _outside(project, f"{path.relative_to(project)} is a link out of the project's folder")
        if path.name in {"dbt_project.yml", "dbt_project.yaml"} and path.is_file():
            for key, value in _paths(path):
                if not _stays_inside(value):
                    raise _outside(project, f"{key} of {path.relative_to(project)} leads out of the project's folder")


def _paths(file: Path) -> Iterator[tuple[str, object]]:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # dbt says what is wrong with it
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(key, str) and key.endswith(("-path", "-paths")):
            for path in value if isinstance(value, list) else [value]:
                yield key, path


def _stays_inside(path: object) -> bool:
    return isinstance(path, str) and bool(_PLAIN.fullmatch(path)) and ".." not in path.split("/")


def _outside(project: Path, what: str) -> DeclarationError:
    return DeclarationError(
        what,
        where=str(project),
        fix="put the file itself into the project, or name a folder of it; dbt would read whatever is there",
    )
