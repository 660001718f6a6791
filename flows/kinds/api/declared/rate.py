"""Our own rate limit for an API, whatever it would allow."""

from dataclasses import dataclass

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests and records per time window, spread evenly over it.

    Rate(requests=10)                               ten requests per second
    Rate(requests=600, per="1 min")                 ten per second as well: 600 at once would be a burst
    Rate(requests=2, records=100_000, per="1 h")    whichever limit is reached first
    """

    requests: float | None = None
    records: float | None = None
    per: str = "1 s"

    def __post_init__(self) -> None:
        given = [bound for bound in (self.requests, self.records) if bound is not None]
        if not given or min(given) <= 0 or self.seconds <= 0:
            raise DeclarationError(
                "a rate needs requests or records above 0",
                where="rate",
                fix='write requests or records above 0 in a window, such as Rate(requests=600, per="1 min")',
            )

    @property
    def seconds(self) -> float:
        """The window's length."""
        return parse_duration(self.per, "rate").total_seconds()
