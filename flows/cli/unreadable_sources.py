"""Mistakes of Python in a source's declaration, as errors that say where they are."""

from __future__ import annotations

import traceback
from pathlib import Path

import flows
from flows.values.errors import DeclarationError

_SOURCES = Path(flows.__path__[0]) / "sources"


def of_declaration(problem: Exception) -> DeclarationError | None:
    """The error of a file of flows/sources that Python cannot read; None if it is another's.

    Its text is about code: nothing was connected to, and no row was read, when files of declarations are imported.
    """
    place: tuple[str, int | None] | None = None
    if isinstance(problem, SyntaxError) and problem.filename is not None:
        place = (problem.filename, problem.lineno)
    else:
        frames = traceback.extract_tb(problem.__traceback__)
        ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_SOURCES)]
        if ours and ours[-1].name == "<module>":
            place = (ours[-1].filename, ours[-1].lineno)
    if place is None or not Path(place[0]).is_relative_to(_SOURCES):
        return None
    text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return DeclarationError(
        f"{type(problem).__name__}: {text}",
        where=f"flows/sources/{Path(place[0]).relative_to(_SOURCES)}, line {place[1]}",
        fix="correct the line; docs/declaring-sources.md lists what can be declared",
    )
