"""Lossless changes of a column's type: every old value is a value of the new type, with the same text."""

import re

_INTEGERS = ("smallint", "integer", "bigint")
_SIZED = re.compile(r"(?P<name>[a-z ]+?)(?:\((?P<size>\d+)(?:,(?P<scale>-?\d+))?\))?(?P<zone> with(?:out)? time zone)?")
_UNBOUNDED = {"character varying", "text"}


def widens(old: str, new: str) -> bool:
    """Whether a column of the old type can be widened to the new one, both as spelled by PostgreSQL's `format_type`.

    Real numbers are excluded: the same value has another text in double precision.
    """
    if old in _INTEGERS and new in _INTEGERS:
        return _INTEGERS.index(old) < _INTEGERS.index(new)
    before, after = _SIZED.fullmatch(old), _SIZED.fullmatch(new)
    if before is None or after is None or before["zone"] != after["zone"]:
        return False
    if before["name"] in _UNBOUNDED and after["name"] in _UNBOUNDED:
        return after["size"] is None or (before["size"] is not None and int(after["size"]) > int(before["size"]))
    if before["name"] != after["name"]:
        return False
    if before["name"] == "numeric":
        return _numeric_widens(before, after)
    if before["zone"] is not None or before["name"] == "bit varying":
        # A timestamp without a declared precision has the highest.
        return before["size"] is not None and (after["size"] is None or int(after["size"]) > int(before["size"]))
    return False


def _numeric_widens(before: re.Match[str], after: re.Match[str]) -> bool:
    """At least as many digits on either side of the point; an unlimited numeric accepts every old value."""
    if before["size"] is None or after["size"] is None:
        # An unlimited numeric keeps each value's own scale, so stored values do not change.
        return before["size"] is not None
    scale, wider = int(before["scale"] or 0), int(after["scale"] or 0)
    # Another scale would rewrite every value: 1.0 becomes 1.00.
    return wider == scale and int(after["size"]) > int(before["size"])
