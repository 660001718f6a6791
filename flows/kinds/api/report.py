"""What a published load reports of a list that is not known to be complete."""

from __future__ import annotations

from flows.kinds.api.list_state import Gathered
from flows.values.errors import SourceError


def refused_parents(gathered: Gathered, where: str) -> SourceError:
    """The error that is recorded for parents whose lists could not be read. The others were published."""
    counts = ", ".join(f"{name} for {count}" for name, count in sorted(gathered.outcomes.items()))
    return SourceError(
        f"the lists of some parents could not be read ({counts}); their children are unchanged, and the others were "
        "published",
        where=where,
        fix="the next run requests them again; if it persists, check the permissions of the key, and the path",
    )


def lists_refused(gathered: Gathered, where: str) -> str | None:
    """The lists of parents that the API did not give, in words; None before all were asked for."""
    if not gathered.ended or not gathered.outcomes:
        return None
    problem = refused_parents(gathered, where)
    return f"{problem.what}; {problem.fix}"


def warning_of(gathered: Gathered, lacks: int = 0, *, replaces: bool = False, grouped: bool = False) -> str | None:
    """What the load says besides its counts; None if the list is known to be complete.

    `replaces`: of a replace; `grouped`: of several parents by one request.

    `lacks`: the records that the API counts, and that are on none of the pages.
    """
    if lacks:
        return (
            f"the API counts {lacks} more records than its pages have had, because records moved or repeat while the "
            "list was read, so nothing of it was marked as deleted; the next run reads it again"
        )
    if gathered.ignored:
        return (
            f"{gathered.ignored} answers were ignored as declared, so nothing of their lists was marked as deleted; "
            "see answers= of the declaration"
        )
    if gathered.skipped and replaces:
        return (
            f"{gathered.skipped} lists were skipped as declared, so nothing was marked as deleted; "
            "use load=Merge(), or see answers= of the declaration"
        )
    if gathered.unproven and grouped:
        return (
            f"nothing shows that the lists of {gathered.unproven} parents are complete, so nothing of theirs was "
            "marked as deleted; if they should have more children, check group= and the pagination of the declaration"
        )
    if gathered.unproven:
        return (
            "the API has not shown that this is the end of the list, so nothing of it was marked as deleted; "
            "declare page_size or total, by which it can be shown"
        )
    return None
