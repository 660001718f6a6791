"""One error for parallel failures: each cause once, with what it affected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from flows.values.errors import DecisionNeeded, FailureClass, IngestFailed, MedallionError

# Of several causes, the first of these decides: a retry does not help if a person is needed.
_DECIDING = (
    FailureClass.PERMANENT,
    FailureClass.SCHEMA,
    FailureClass.BUSINESS,
    FailureClass.DATA,
    FailureClass.RESOURCE,
    FailureClass.TRANSIENT,
)
_NAMED = 5
_PATH_ASKED_FOR = re.compile(r"\b(GET|POST) /\S*")


def combined(
    errors: Mapping[str, MedallionError],
    what: str,
    *,
    where: str,
    also: str = "",
    kind: type[MedallionError] = IngestFailed,
) -> MedallionError:
    """Combine errors: the fixes of all, the worst exit code, the deciding class. `what` is the headline, `also` is
    additional text.

    A combined error counts by its parts, so that one cause in two sources is one cause.
    """
    parts = parts_of(errors)
    causes = sorted(parts.values(), key=lambda error: _DECIDING.index(error.failure_class))
    error = kind(
        f"{what} ({listed(parts)}){also}",
        where=where,
        fix="; ".join(dict.fromkeys(cause.fix for cause in causes)),
        retryable=all(cause.retryable for cause in causes),
    )
    # A question waits for its answer; beside it, what failed needs somebody first.
    codes = {cause.exit_code for cause in causes}
    error.exit_code = max(codes - {DecisionNeeded.exit_code} or codes)
    error.failure_class = causes[0].failure_class
    error.__dict__["parts"] = parts
    return error


def parts_of(errors: Mapping[str, MedallionError]) -> dict[str, MedallionError]:
    """The errors by the name of what failed, with combined errors split into their parts."""
    parts: dict[str, MedallionError] = {}
    for name, error in errors.items():
        parts |= error.__dict__.get("parts") or {name: error}
    return parts


def listed(errors: Mapping[str, MedallionError]) -> str:
    """`stores: …; 3 times (baskets, products, prices): …`: equal errors are one entry with their count."""
    return "; ".join(
        f"{names[0]}: {what}" if len(names) == 1 else f"{len(names)} times ({named(names)}): {what}"
        for what, names in by_cause(errors).items()
    )


def by_cause(errors: Mapping[str, MedallionError]) -> dict[str, list[str]]:
    """Each cause once, with what it affected."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, error in errors.items():
        found.setdefault(cause_of(error.what), []).append((name, error.what))
    return {
        told[0][1] if len({what for _, what in told}) == 1 else cause: [name for name, _ in told]
        for cause, told in found.items()
    }


def cause_of(what: str) -> str:
    """The cause without the request path: an API that is down is one cause for all its endpoints."""
    return _PATH_ASKED_FOR.sub(r"\1 …", what)


def distinct(errors: Iterable[MedallionError]) -> list[MedallionError]:
    """The first of equal errors."""
    return list({cause_of(error.what): error for error in reversed(list(errors))}.values())[::-1]


def named(names: list[str]) -> str:
    """The first names, and the number of others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
