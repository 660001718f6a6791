"""The day that the API shows: a small file that a running server reads on every request."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.values.errors import ConfigurationError

_FILE = "day"


@dataclass(frozen=True, slots=True)
class Day:
    """The day shown, 1 or 2, and since when: the changes of day two carry that moment as their updated_at."""

    number: int
    since: datetime


def set_day(state: Path, number: int, since: datetime | None = None) -> Day:
    """Show day `number` (1 or 2) from now on, or from the given moment. Raises ValueError for any other day."""
    if number not in (1, 2):
        raise ValueError(f"there is no day {number}: the API has days 1 and 2")
    day = Day(number, since or datetime.now(UTC))
    state.mkdir(parents=True, exist_ok=True)
    draft = state / f"{_FILE}.new"
    draft.write_text(f"{day.number} {day.since.isoformat()}\n")
    draft.replace(state / _FILE)  # a reader sees the old day or the new one, never half a file
    return day


def read_day(state: Path) -> Day:
    """The day that was set, or day one. Raises ConfigurationError when the file holds something else."""
    try:
        text = (state / _FILE).read_text()
    except FileNotFoundError:
        return Day(1, datetime.now(UTC))
    match text.split():
        case [("1" | "2") as number]:
            return Day(int(number), datetime.fromtimestamp((state / _FILE).stat().st_mtime, tz=UTC))
        case [("1" | "2") as number, since]:
            return Day(int(number), datetime.fromisoformat(since).astimezone(UTC))
    raise ConfigurationError(
        "the day file contains neither 1 nor 2",
        where="commerce API",
        fix="set the day again with demo.commerce.set_day",
    )


def day_stamp(state: Path) -> tuple[int, int, int] | None:
    """What changes whenever the day is set; costs one look at the file's entry, not its content."""
    try:
        entry = (state / _FILE).stat()
    except FileNotFoundError:
        return None
    return entry.st_ino, entry.st_mtime_ns, entry.st_size
