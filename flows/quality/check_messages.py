"""What soda says of its checks, in words without values of rows."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

# PostgreSQL's messages may quote values of rows (`invalid input syntax for type integer: "…"`). These forms name only
# objects; any other message is withheld.
_SAFE_REASONS = re.compile(
    r"(?:column|relation|schema|function|type|operator|table) [^\n]{1,120}? does not exist"
    r"|permission denied for [a-z ]{1,20} \w{1,63}"
    r"|canceling statement due to [a-z ]{1,40}"
    r"|operator does not exist: [\w ]{1,40} [<>=!~]{1,3} [\w ]{1,40}"
)
# Longer messages would make the table unreadable.
_REASONS_SHOWN = 3


def result_message(found: Any, outcome: str) -> str:
    """What a check of soda measured, against which bounds."""
    if outcome == "not_evaluated":
        return f"{found.check.name}: not evaluated, so its result is unknown"
    if found.check.type == "schema":
        return "; ".join(_schema_differences(found)) or found.check.name
    limits = [threshold for threshold in (found.check.threshold, found.check.warn_threshold) if threshold is not None]
    bounds = " and ".join(_bounds(threshold) for threshold in limits)
    value = found.threshold_value
    # No rows, nothing to measure: the age of an empty table, the average of no values.
    measured = "nothing to measure" if value is None else f"{value:,.10g}"
    return f"{found.check.name}: {measured}" + (f" ({bounds})" if bounds else "")


def _bounds(threshold: Any) -> str:
    parts = [line for line in str(threshold).splitlines() if not line.startswith("level:")]
    return f"{', '.join(parts)}{', else a warning' if threshold.level == 'warn' else ''}"


def _schema_differences(found: Any) -> Iterator[str]:
    if found.expected_column_names_not_actual:
        yield f"missing columns: {', '.join(found.expected_column_names_not_actual)}"
    if found.actual_column_names_not_expected:
        yield f"unexpected columns: {', '.join(found.actual_column_names_not_expected)}"
    for mismatch in found.column_data_type_mismatches:
        yield f"{mismatch.column}: {mismatch.get_actual()} instead of {mismatch.get_expected()}"
    if found.are_columns_out_of_order:
        yield "columns in a different order"


def safe_reasons(problems: Sequence[str], kind: type) -> str:
    """The safe part of an engine's error: names of objects, never a quoted value."""
    safe = list(dict.fromkeys(form[0] for problem in problems for form in _SAFE_REASONS.finditer(problem)))
    if safe:
        return "; ".join(safe[:_REASONS_SHOWN])
    name = "" if kind is type(None) else f"{kind.__name__}; "
    return f"{name}its text may contain values of rows and is withheld; run the contract with `soda` manually to see it"
