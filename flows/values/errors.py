"""The exceptions of medallion.

MedallionError            what · where · fix · retryable
├── DeclarationError      an invalid declaration of a source              exit 2
├── ConfigurationError    a setting, credential or connection is wrong    exit 2 or 3
├── SourceError           a source failed or sent an invalid response     exit 3
│   ├── SourceUnavailable     … and may be available later
│   │   ├── RateLimited           … at a known time
│   │   └── PlaceLost             … and the position in its list is lost
│   ├── ListUnfinished        a list whose end is not proven; the next run goes on there
│   └── IngestFailed          … in several tables or sources at once
├── WarehouseError        the warehouse failed                            exit 3
│   └── LoadLocked            another run holds the table
├── DataRefused           the data broke a rule, a gate or a threshold    exit 1
│   ├── SchemaDrift           a column changed in a way that needs a person
│   └── OverBudget            a load needs more than its budget, and cannot stop in the middle
├── BudgetReached         a load stopped at its budget; the next goes on  exit 4
└── Stopped               cancelled, or its process was terminated        exit 130
"""

from enum import StrEnum

from flows.values.visible import visible


class FailureClass(StrEnum):
    """The class of a failure, which decides how it is handled."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    DATA = "data"
    SCHEMA = "schema"
    RESOURCE = "resource"
    BUSINESS = "business"


class MedallionError(Exception):
    """An error with what, where, fix and retryable.

    The parts are our own texts and must not contain secrets or values of rows.
    """

    exit_code = 3
    failure_class = FailureClass.PERMANENT

    def __init__(self, what: str, *, where: str, fix: str, retryable: bool = False) -> None:
        # Parts may contain names of the source's tables and columns, which may be anything.
        self.what = visible(what, lines=True)
        self.where = visible(where)
        self.fix = visible(fix, lines=True)
        self.retryable = retryable
        if retryable and self.failure_class is FailureClass.PERMANENT:
            self.failure_class = FailureClass.TRANSIENT
        super().__init__(self.what, self.where, self.fix, retryable)

    def __str__(self) -> str:
        retryable = "yes" if self.retryable else "no"
        return f"{self.where}: {self.what}; fix: {self.fix}; retryable: {retryable}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments: without this an error could not cross a process boundary.
        return (_rebuild, (type(self), self.what, self.where, self.fix, self.retryable, self.__dict__))


def _rebuild(
    kind: type[MedallionError], what: str, where: str, fix: str, retryable: bool, state: dict[str, object]
) -> MedallionError:
    error = kind.__new__(kind)
    MedallionError.__init__(error, what, where=where, fix=fix, retryable=retryable)
    error.__dict__.update(state)
    return error


class DeclarationError(MedallionError):
    """A declared source contradicts itself. Raised at import, before anything is touched."""

    exit_code = 2


class ConfigurationError(MedallionError):
    """A setting, a credential or a connection URL is missing or wrong."""

    exit_code = 3


class SourceError(MedallionError):
    """A source failed, or sent a response that must not be treated as data."""


class SourceUnavailable(SourceError):
    """The source does not respond now. Retryable."""

    failure_class = FailureClass.TRANSIENT


class RateLimited(SourceUnavailable):
    """The source requests a longer wait than this run allows.

    `retry_after` is in seconds.
    """

    retry_after: float = 0.0


class PlaceLost(SourceUnavailable):
    """The position in the source's list is lost. Reading from the last published cursor helps."""


class ListUnfinished(SourceError):
    """A source's list contradicts itself, or met a bound, so that its end is not proven.

    What came before is kept, nothing is marked as deleted, and the next run goes on from there.
    """


class IngestFailed(SourceError):
    """Some tables or sources were not loaded. The others were."""


class WarehouseError(MedallionError):
    """The warehouse failed."""


class LoadLocked(WarehouseError):
    """Another run holds the table's lock."""

    failure_class = FailureClass.TRANSIENT


class DataRefused(MedallionError):
    """The data broke a rule beyond its threshold, or a gate. Nothing was published."""

    exit_code = 1
    failure_class = FailureClass.DATA


class SchemaDrift(DataRefused):
    """A column changed in a way that needs a decision."""

    failure_class = FailureClass.SCHEMA


class OverBudget(DataRefused):
    """A load is known to need more than its budget, and cannot stop in the middle. Nothing was read."""

    failure_class = FailureClass.BUSINESS


class BudgetReached(MedallionError):
    """A load stopped at its budget, at a commit. What it has is kept, and the next run goes on from there.

    Nothing failed, and the table is not complete.
    """

    exit_code = 4
    failure_class = FailureClass.RESOURCE


class Stopped(MedallionError):
    """The run was cancelled, or its process was terminated. Nothing is wrong with code or data."""

    exit_code = 130  # as in shells for Ctrl-C
