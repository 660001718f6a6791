"""The correlation id: one id for a run and everything it does, in every system that the run touches.

It is made where work begins: by the command line, or by a flow run on a worker. Below, everything asks for it here:
log lines, sessions of PostgreSQL (`application_name`), statements (a comment), tags of Prefect's runs, `ops.runs`,
spans. A child process gets it in its environment, see `handed_down`.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

#: Child processes and flow runs on a worker use the id of the process that started them.
CORRELATION_VARIABLE = "MEDALLION_CORRELATION_ID"
#: W3C Trace Context in the environment, as OpenTelemetry and CI systems write it.
TRACEPARENT_VARIABLE = "TRACEPARENT"
#: What stands for the id outside of any run.
NONE = "-"
# A UUID fits. The id stands in SQL comments, names of sessions, tags and file names, so it has no other characters.
_LONGEST = 36
_OTHER = re.compile(r"[^A-Za-z0-9_.:-]+")
# PostgreSQL cuts names of sessions after so many bytes: NAMEDATALEN - 1.
_NAME_BYTES = 63

_correlation_id: ContextVar[str | None] = ContextVar("medallion_correlation_id", default=None)
_traceparent: ContextVar[str | None] = ContextVar("medallion_traceparent", default=None)


def cleaned(identifier: str) -> str:
    """An id from outside, reduced to characters that may stand everywhere; empty if nothing is left."""
    return _OTHER.sub("-", identifier).strip("-")[:_LONGEST]


def correlation_id() -> str:
    """The current correlation id: of this context, else of the parent process, else `-`."""
    return _correlation_id.get() or cleaned(os.environ.get(CORRELATION_VARIABLE, "")) or NONE


def known_here() -> str | None:
    """The id of this context; None if only the environment, or nothing, has one."""
    return _correlation_id.get()


@contextmanager
def correlated(identifier: str | None = None) -> Iterator[str]:
    """Everything inside has this id; by default the current id, or a new one if there is none."""
    current = correlation_id()
    chosen = cleaned(identifier or "") or (current if current != NONE else uuid.uuid4().hex[:12])
    token = _correlation_id.set(chosen)
    try:
        yield chosen
    finally:
        _correlation_id.reset(token)


def application_name(label: str) -> str:
    """The name of a session of PostgreSQL: `medallion load shop.baskets 3f2a91c0b7d4`.

    A long label is shortened, so that the server does not cut off the id. Outside of a run it is the label alone.
    """
    identifier = correlation_id()
    if identifier == NONE:
        return label
    # The server writes other characters as escapes of four, and cuts what is too long afterwards.
    label, room = label.encode("ascii", "replace").decode(), _NAME_BYTES - len(identifier) - 1
    return f"{label if len(label) <= room else f'{label[: room - 2]}..'} {identifier}"


def trace_id() -> str | None:
    """The trace of the current id, in hexadecimal; None outside of a run.

    It is derived from the id, so all processes of a run write to one trace, whether or not they got a parent span.
    """
    identifier = correlation_id()
    return None if identifier == NONE else hashlib.sha256(identifier.encode()).hexdigest()[:32]


def traceparent() -> str | None:
    """The current span in the form of W3C Trace Context; None while nothing is traced."""
    return _traceparent.get()


@contextmanager
def under_span(parent: str | None) -> Iterator[None]:
    """Inside, `parent` is the current span."""
    token = _traceparent.set(parent)
    try:
        yield
    finally:
        _traceparent.reset(token)


def handed_down() -> dict[str, str]:
    """Environment variables for a child process, so that it goes on under this id and below this span."""
    identifier, parent = correlation_id(), traceparent()
    found = {} if identifier == NONE else {CORRELATION_VARIABLE: identifier}
    return found if parent is None else found | {TRACEPARENT_VARIABLE: parent}


@contextmanager
def taken_over(handed: Mapping[str, str]) -> Iterator[None]:
    """Inside, what `handed_down` gave in another process holds here."""
    with correlated(handed.get(CORRELATION_VARIABLE)), under_span(handed.get(TRACEPARENT_VARIABLE)):
        yield


def comment(*, traced: bool = True) -> str:
    """A comment for the head of a statement, in the form of sqlcommenter; empty outside of a run.

    `traced`: with the current span, if there is one.
    """
    identifier, parent = correlation_id(), traceparent() if traced else None
    if identifier == NONE:
        return ""
    facts = {"application": "medallion", "correlation_id": identifier}
    facts |= {} if parent is None else {"traceparent": parent}
    return "/*" + ",".join(f"{name}='{_OTHER.sub('-', value)}'" for name, value in facts.items()) + "*/ "
