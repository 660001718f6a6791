"""What a person has allowed the load that is under way, and what it may ask.

    with asking(Asking(frozenset({"deletes"}), answers)):          around a load
        ...
            refuse(DataRefused(…), Question("deletes", …))         where it would be refused

A context variable, since what refuses is many calls below what knows the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flows.values.errors import DataRefused, DecisionNeeded
from flows.values.question import Question


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer that no run has used yet, with the plan that was shown."""

    number: int
    accepted: bool
    by: str
    plan: Mapping[str, Any]


@dataclass(slots=True)
class Asking:
    """What a load may ask `about`, and the answers it may use by their kind. `used` are those that it relies on."""

    about: frozenset[str]
    answers: dict[str, Answer] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def forget_used(self) -> None:
        """What was used by a commit is used up, also for the next commit of this load."""
        self.answers = {kind: answer for kind, answer in self.answers.items() if answer.number not in self.used}
        self.used.clear()


_current: ContextVar[Asking | None] = ContextVar("asking", default=None)


@contextmanager
def asking(what: Asking) -> Iterator[None]:
    """Have refusals within the block be questions, as far as it may ask."""
    token = _current.set(what)
    try:
        yield
    finally:
        _current.reset(token)


def current_asking() -> Asking | None:
    """That of the load under way; None if it may ask nothing."""
    return _current.get()


def refuse(error: DataRefused, question: Question) -> None:
    """Raise the error, unless a person has allowed exactly this; as a question, if the load may ask.

    Raises:
        DataRefused: nobody is asked, or a person refused it.
        DecisionNeeded: somebody has to decide; `question` is stored with it.
    """
    now = _current.get()
    if now is None or question.kind not in now.about:
        raise error
    answer = now.answers.get(question.kind)
    if answer is None or not question.is_within(answer.plan):
        raise needed(error, question)
    now.used.add(answer.number)
    if not answer.accepted:
        raise refused_by(error, answer)


def needed(error: DataRefused, question: Question) -> DecisionNeeded:
    """The refusal as a question. How to answer it is said once it has a number."""
    asked = DecisionNeeded(error.what.removesuffix("; nothing was published"), where=error.where, fix=error.fix)
    asked.__dict__["question"] = question
    return asked


def waits(error: DataRefused, number: int, *, is_new: bool = True) -> None:
    """Say in the error how its question is answered, now that it has a number. `is_new`: nobody was asked before."""
    error.__dict__.update(decision=number, is_new=is_new)
    error.what = f"{error.what}; nothing was published: this waits for a person's decision {number}"
    error.fix = (
        f"look at it with `medallion decide show {number}`, then `medallion decide answer {number} accept` or "
        f"`refuse`; the next run takes the answer. Or change the cause: {error.fix}"
    )


def refused_by(error: DataRefused, answer: Answer) -> DataRefused:
    """The refusal, which a person has confirmed."""
    refused = DataRefused(f"{error.what}; {answer.by} refused it", where=error.where, fix=error.fix)
    refused.__dict__["answer"] = answer.number
    return refused
