"""How much of an API we allow ourselves, whatever it would bear."""

from dataclasses import dataclass

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests and records in a window of time, spread evenly over it.

    Rate(requests=10)                               ten requests a second
    Rate(requests=600, per="1 min")                 ten a second as well: 600 at once would be a burst
    Rate(requests=2, records=100_000, per="1 h")    whichever comes first
    """

    requests: float | None = None
    records: float | None = None
    per: str = "1 s"

    def __post_init__(self) -> None:
        given = [bound for bound in (self.requests, self.records) if bound is not None]
        if not given or min(given) <= 0 or self.seconds <= 0:
            raise DeclarationError(
                "a rate allows nothing, or does not say what it bounds",
                where="rate",
                fix='write requests or records above 0 in a window, such as Rate(requests=600, per="1 min")',
            )

    @property
    def seconds(self) -> float:
        """The window's length."""
        return parse_duration(self.per, "rate").total_seconds()
