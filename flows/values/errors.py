"""What can go wrong, in the words of the person who must act.

MedallionError            what · where · next move · can a retry help
├── DeclarationError      a source is declared wrongly                    exit 2
├── ConfigurationError    a setting, credential or connection is wrong    exit 2 or 3
├── SourceError           a source failed or answered nonsense            exit 3
│   ├── SourceUnavailable     … and may answer later
│   │   ├── RateLimited           … and said when
│   │   └── PlaceLost             … and has forgotten where in its list we were
│   └── IngestFailed          … in several tables or sources at once
├── WarehouseError        the warehouse failed                            exit 3
│   └── LoadLocked            another run holds the table
├── DataRefused           the data broke a rule, a gate or a threshold    exit 1
│   └── SchemaDrift           a column changed in a way that needs a person
└── Stopped               a person cancelled it, or its process was ended exit 130
"""

from enum import StrEnum

from flows.values.visible import visible


class FailureClass(StrEnum):
    """How a failure behaves, which decides what may be done about it."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    DATA = "data"
    SCHEMA = "schema"
    RESOURCE = "resource"
    BUSINESS = "business"


class MedallionError(Exception):
    """An error that tells what, where, the next move, and whether a retry can help.

    The parts are written by us and must hold neither secrets nor values of rows.
    """

    exit_code = 3
    failure_class = FailureClass.PERMANENT

    def __init__(self, what: str, *, where: str, fix: str, retryable: bool = False) -> None:
        # Parts may name what a source calls its tables and columns, which may be anything.
        self.what = visible(what, lines=True)
        self.where = visible(where)
        self.fix = visible(fix, lines=True)
        self.retryable = retryable
        if retryable and self.failure_class is FailureClass.PERMANENT:
            self.failure_class = FailureClass.TRANSIENT
        super().__init__(self.what, self.where, self.fix, retryable)

    def __str__(self) -> str:
        retry = "a retry can help" if self.retryable else "a retry cannot help"
        return f"{self.where}: {self.what}; {retry}; {self.fix}"

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
    """A setting, a credential or an address is missing or wrong."""

    exit_code = 3


class SourceError(MedallionError):
    """A source failed, or answered something that must not be taken for data."""


class SourceUnavailable(SourceError):
    """The source does not answer now. Waiting helps."""

    failure_class = FailureClass.TRANSIENT


class RateLimited(SourceUnavailable):
    """The source asked us to wait longer than this run may.

    `retry_after` is in seconds.
    """

    retry_after: float = 0.0


class PlaceLost(SourceUnavailable):
    """The source does not know our place in its list any more. Reading from the last published cursor helps."""


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
    """A column changed in a way that must not be guessed at."""

    failure_class = FailureClass.SCHEMA


class Stopped(MedallionError):
    """A person cancelled the run, or its process was told to end. Nothing is wrong with code or data."""

    exit_code = 130  # as shells have it for Ctrl-C
