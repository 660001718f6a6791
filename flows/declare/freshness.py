"""How fresh tables must be, by four clocks: the last load, the newest event, gold, and a deadline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flows.declare.deadline import Deadline
from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a source promises of each of its tables, or a table of itself.

        Freshness(loaded_within="2 h")                        the last successful load, also of no rows, is that recent
        Freshness(event_within="1 day", event="sold_at")      and so is the newest value of a column of raw; without
                                                              `event`, of the cursor
        Freshness(built_within="3 h")                         changed rows are in gold that soon
        Freshness(expected_by=Deadline("0 7 * * 1-5", "Europe/Berlin"))

    That of a table replaces the source's as a whole. A missed deadline is an error, or critical if declared so.

    Raises:
        DeclarationError: a duration cannot be read, or an event column has no limit.
    """

    loaded_within: str | None = None
    event_within: str | None = None
    event: str | None = None
    built_within: str | None = None
    expected_by: Deadline | None = None
    critical: bool = False

    def __post_init__(self) -> None:
        for name in ("loaded_within", "event_within", "built_within"):
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or parse_duration(text, name) <= timedelta(0)):
                raise DeclarationError(f"{text!r} is not a limit", where=name, fix="write it like '2 h' or '1 day'")
        if self.expected_by is not None and not isinstance(self.expected_by, Deadline):
            raise DeclarationError(
                "expected_by is not a deadline", where="freshness", fix='write Deadline("0 7 * * 1-5", "Europe/Berlin")'
            )
        if self.event is not None and (not self.event or self.event_within is None):
            raise DeclarationError(
                f"the event column {self.event!r} has no limit, or no name",
                where="freshness",
                fix='add event_within="1 day"',
            )
        if self.critical and self.expected_by is None:
            raise DeclarationError(
                "critical is about a missed deadline, and there is none", where="freshness", fix="add expected_by"
            )


def refuse_freshness(declared: Any, where: str, *, has_time: bool = True) -> None:
    """Refuse what cannot be measured. `has_time`: the cursor is a time, which is an event's unless one is named.

    Raises:
        DeclarationError: it is no Freshness, or its event is not known.
    """
    if declared is None:
        return
    if not isinstance(declared, Freshness):
        raise DeclarationError(
            "freshness is not a Freshness", where=where, fix='write freshness=Freshness(loaded_within="2 h")'
        )
    if declared.event_within is not None and declared.event is None and not has_time:
        raise DeclarationError(
            "event_within needs the time of an event, and there is no cursor that is a time",
            where=where,
            fix='name a column of raw: Freshness(event_within="1 day", event="sold_at")',
        )


def limit(text: str | None) -> timedelta | None:
    """A declared limit as a timedelta."""
    return None if text is None else parse_duration(text, "freshness")
