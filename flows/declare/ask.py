"""When a person decides what a load, a release or a repair may do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, get_args

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError

About = Literal["rejected rows", "deletes", "columns"]
"""Why a load may be refused, as far as a person may allow it once."""

Work = Literal["deletes", "release", "repair"]
"""What an environment may have approved."""

#: An answer is expected within a working day.
WITHIN = "12 h"


@dataclass(frozen=True, slots=True)
class Ask:
    """A load that would be refused asks a person instead, and is refused if nobody answers in time.

        Ask()                                       about whatever a person may allow
        Ask(about=("deletes",), within="4 h")       for example only about more deletes than max_deleted allows
        Ask(two_persons=True)                       who started the run may not accept it

    `about`: "rejected rows" (more than max_quarantined allows), "deletes" (more than max_deleted or min_share allow),
    "columns" (a change that on_drift="freeze" refuses). An accepted answer is used once, for exactly what was shown.

    Raises:
        DeclarationError: unknown kinds, or a time that cannot be read.
    """

    about: tuple[About, ...] = ("rejected rows", "deletes", "columns")
    within: str = WITHIN
    two_persons: bool = False

    def __post_init__(self) -> None:
        _refuse(self.about, get_args(About), self.within, "Ask")

    @property
    def lasts(self) -> timedelta:
        """How long a question stays open, and how long an accepted answer may be used."""
        return parse_duration(self.within, "Ask")


@dataclass(frozen=True, slots=True)
class Approval:
    """What waits in an environment until a person accepts exactly what was shown.

        Approval("production", ("release", "repair", "deletes"), two_persons=True)

    `work`: "deletes" (loads that would delete more than declared; without this they are refused), "release" (of the
    models), "repair" (`medallion reconcile --repair`).

    Raises:
        DeclarationError: unknown work, or a time that cannot be read.
    """

    environment: str
    work: tuple[Work, ...]
    within: str = WITHIN
    two_persons: bool = False

    def __post_init__(self) -> None:
        _refuse(self.work, get_args(Work), self.within, f"Approval of {self.environment!r}")

    @property
    def ask(self) -> Ask:
        """The question that its loads, releases and repairs ask."""
        return Ask(("deletes",), self.within, self.two_persons)


def _refuse(named: Any, known: tuple[str, ...], within: str, where: str) -> None:
    if isinstance(named, str) or not named or (strange := [str(one) for one in named if one not in known]):
        what = "a text, not a tuple" if isinstance(named, str) else "empty" if not named else ", ".join(strange)
        raise DeclarationError(
            f"what is asked about is {what}", where=where, fix=f"write a tuple of {', '.join(map(repr, known))}"
        )
    if parse_duration(within, where) <= timedelta(0):
        raise DeclarationError(f"{within!r} leaves no time for an answer", where=where, fix="write it like '12 h'")


def refuse_ask(declared: Any, where: str) -> None:
    """Raises:
    DeclarationError: it is no Ask.
    """
    if declared is not None and not isinstance(declared, Ask):
        raise DeclarationError("on_refusal is not an Ask", where=where, fix="write on_refusal=Ask()")


def merged(declared: Ask | None, approval: Approval | None) -> Ask | None:
    """What a load asks about: as declared for the table, and as its environment has deletes approved."""
    if approval is None or "deletes" not in approval.work:
        return declared
    if declared is None:
        return approval.ask
    about: tuple[About, ...] = (*(one for one in declared.about if one != "deletes"), "deletes")
    return replace(declared, about=about, two_persons=declared.two_persons or approval.two_persons)
