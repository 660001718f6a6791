"""Check that a dbt project reads only files in its folder.

dbt follows symbolic links, and paths in dbt_project.yml may point anywhere: a model that is a link to
`/proc/self/environ` has the process's environment as its text, and the manifest stores it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flows.values.errors import DeclarationError

# dbt renders paths with Jinja; a plain name cannot change.
_PLAIN = re.compile(r"[\w .\-]+(?:/[\w .\-]+)*/?")


def refuse_outside_files(project: Path) -> None:
    """Refuse links and paths of the project that point outside of its folder.

    Raises:
        DeclarationError: there is one; the message names it.
    """
    root = project.resolve()
    for path in project.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise _outside(project, f"{path.relative_to(project)} links to a target outside of the project's folder")
        if path.name in {"dbt_project.yml", "dbt_project.yaml"} and path.is_file():
            for key, value in _paths(path):
                if not _stays_inside(value):
                    raise _outside(
                        project, f"{key} of {path.relative_to(project)} points outside of the project's folder"
                    )


def declared_folders(project: Path) -> set[str]:
    """First parts of the folders that dbt_project.yml names for models, macros and the like; `.` for the project's."""
    return {
        (Path(value).parts or (".",))[0]
        for file in ("dbt_project.yml", "dbt_project.yaml")
        if (project / file).is_file()
        for key, value in _paths(project / file)
        if key.endswith("-paths") and isinstance(value, str)
    }


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
        fix="move the file into the project, or name a folder inside it; dbt would read whatever is outside",
    )
