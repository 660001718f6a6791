"""What reading costs, by the prices in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.values.settings import settings


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of what a load uses, 0 if not set. `of_requests`: per thousand, for sources of their own."""

    per_gb: float = 0.0
    per_thousand_requests: float = 0.0
    per_hour: float = 0.0
    per_gb_month: float = 0.0
    per_day: float = 0.0
    of_requests: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def declared(cls) -> Price:
        """The prices of the settings."""
        chosen = settings()
        return cls(
            chosen.price_per_gb,
            chosen.price_per_thousand_requests,
            chosen.price_per_hour,
            chosen.price_per_gb_month,
            chosen.price_per_day,
            chosen.prices_per_thousand_requests,
        )

    def __bool__(self) -> bool:
        return any((self.per_gb, self.per_thousand_requests, self.per_hour, *self.of_requests.values()))

    def cost(self, size: float = 0, requests: float = 0, seconds: float = 0, source: str = "") -> float:
        """What so many bytes, requests to a source and seconds cost."""
        per_thousand = self.of_requests.get(source, self.per_thousand_requests)
        return size / 1e9 * self.per_gb + requests / 1e3 * per_thousand + seconds / 3600 * self.per_hour
