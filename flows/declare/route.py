"""Who is notified of which alerts, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError

#: From the least to the most severe.
SEVERITIES = ("info", "warning", "error", "critical")


def at_least(severity: str, lowest: str) -> bool:
    """Whether a severity is that severe or more."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(lowest)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of each day in which only critical alerts are sent; the others follow when they end.

        QuietHours("22:00", "07:00", "Europe/Berlin")

    Raises:
        DeclarationError: no times of day, or an unknown time zone.
    """

    begin: str
    end: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            first, last = time.fromisoformat(self.begin), time.fromisoformat(self.end)
            ZoneInfo(self.zone)
            if first.tzinfo is not None or last.tzinfo is not None:
                raise ValueError
        except (ValueError, TypeError, ZoneInfoNotFoundError, OSError):
            raise DeclarationError(
                f"quiet hours from {self.begin!r} to {self.end!r} in {self.zone!r} cannot be read",
                where="quiet hours",
                fix='write QuietHours("22:00", "07:00", "Europe/Berlin")',
            ) from None
        if first == last:
            raise DeclarationError(
                "quiet hours that begin when they end never end",
                where="quiet hours",
                fix="leave them out, or declare a severity that is sent",
            )

    def over_at(self, moment: datetime) -> datetime:
        """When a message that is due at that moment may be sent: then, or at the end of the quiet hours it is in."""
        local = moment.astimezone(ZoneInfo(self.zone))
        first, last = time.fromisoformat(self.begin), time.fromisoformat(self.end)
        now = local.time()
        inside = first <= now < last if first < last else now >= first or now < last
        if not inside:
            return moment
        day = local.date() if now < last else local.date() + timedelta(days=1)
        end = datetime.combine(day, last, ZoneInfo(self.zone))
        # An end in the hour that comes twice, when clocks go back: in the second, it is the second.
        return (end if end.astimezone(UTC) >= moment else end.replace(fold=1)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Route:
    """Alerts from a severity upwards go to these channels.

        Route(["team"], severity="warning", quiet=QuietHours("22:00", "07:00", "Europe/Berlin"))
        Route(["on-call"], severity="critical", escalate_after="30 min", escalate_to=["lead"])
        Route(["shop-team"], only="* shop.*")

    `only` is a pattern over `name subject`, such as `load failed shop.baskets`. An incident that nobody acknowledged
    within `escalate_after` is sent to `escalate_to` as well.

    Raises:
        DeclarationError: no channel, an unknown severity, an escalation without its time or channels.
    """

    channels: Sequence[str]
    severity: str = "warning"
    only: str = "*"
    quiet: QuietHours | None = None
    escalate_after: str | None = None
    escalate_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise self._wrong(f"there is no severity {self.severity!r}", f"use one of {', '.join(SEVERITIES)}")
        if isinstance(self.channels, str) or isinstance(self.escalate_to, str) or not self.channels:
            raise self._wrong("its channels must be a list of names", 'write Route(["team"])')
        if (self.escalate_after is None) != (not self.escalate_to):
            raise self._wrong(
                "an escalation needs a time and channels", 'write escalate_after="30 min", escalate_to=["lead"]'
            )
        if self.escalate_after is not None:
            parse_duration(self.escalate_after, "route")

    def _wrong(self, what: str, fix: str) -> DeclarationError:
        return DeclarationError(what, where=f"route to {self.channels}", fix=fix)

    def takes(self, severity: str, about: Sequence[str]) -> bool:
        """Whether an incident of that severity, with alerts about these, goes this way."""
        return at_least(severity, self.severity) and any(fnmatchcase(each, self.only) for each in about)
