"""An imitation of GA4's Data API, after https://developers.google.com/analytics/devguides/reporting/data/v1.

    POST /v1beta/properties/1234:runReport
    {"dateRanges": [{"startDate": "2024-01-01", "endDate": "yesterday"}], "dimensions": [{"name": "date"}],
     "metrics": [{"name": "sessions"}], "limit": "10000", "offset": "0", "returnPropertyQuota": true}
    → {"dimensionHeaders": [...], "metricHeaders": [...], "rowCount": 120, "kind": "analyticsData#runReport",
       "rows": [{"dimensionValues": [{"value": "20240101"}], "metricValues": [{"value": "42"}]}],
       "propertyQuota": {"tokensPerDay": {"consumed": 1, "remaining": 199999}, …}}

What makes it awkward: rows have no id, what identifies one is its dimensions; every value is a text; and fields that
are empty or 0 are not written, so a report without rows has neither `rows` nor `rowCount`, and a page beyond the end
has no `rows`.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json
from tests.kinds.api.servers.oauth import TokenEndpoint

PROPERTY = "1234"
_FIELDS = {
    "dateRanges", "dimensions", "metrics", "limit", "offset", "orderBys", "returnPropertyQuota", "keepEmptyRows",
    "dimensionFilter", "metricFilter", "currencyCode", "metricAggregations", "cohortSpec", "comparisons",
}  # fmt: skip
_MOST = 250_000


@dataclass
class Analytics(Imitation):
    """A property whose `events` are rows of dimensions and metrics by name; `tokens` says who may ask."""

    tokens: TokenEndpoint = field(default_factory=TokenEndpoint)
    events: list[dict[str, Any]] = field(default_factory=list)
    quota: int = 200_000

    def clear(self) -> None:
        """A property without events and with its whole quota, and nothing asked yet."""
        self.begin()
        self.events, self.quota = [], 200_000

    def answer(self, asked: Asked) -> Reply:
        """The token, then the quota, then the report."""
        if not self.tokens.good(asked):
            return _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if not re.fullmatch(r"/v1beta/properties/\d+:runReport", asked.path) or asked.method != "POST":
            return _error(404, "NOT_FOUND", "Not found.")
        try:
            report = json.loads(asked.body)
        except ValueError:
            return _error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.")
        if unknown := sorted(report.keys() - _FIELDS):
            return _error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. Unknown name {unknown[0]!r}.")
        if not report.get("metrics") or not report.get("dateRanges"):
            return _error(400, "INVALID_ARGUMENT", "A report needs at least one metric and one date range.")
        if self.quota <= 0:
            return _error(429, "RESOURCE_EXHAUSTED", "Exhausted property tokens per hour.")
        self.quota -= 1
        return as_json(200, self._report(report), "Vary: Origin")

    def _report(self, asked: dict[str, Any]) -> dict[str, Any]:
        dimensions = [one["name"] for one in asked.get("dimensions", [])]
        metrics = [one["name"] for one in asked["metrics"]]
        # int64 is a text in Google's JSON; numbers are taken, too.
        limit, offset = min(int(asked.get("limit") or 10_000), _MOST), int(asked.get("offset") or 0)
        sums: dict[tuple[str, ...], list[int]] = {}
        for event in self.events:
            if any(_inside(event["date"], one) for one in asked["dateRanges"]):
                row = sums.setdefault(tuple(str(event[name]) for name in dimensions), [0] * len(metrics))
                for place, metric in enumerate(metrics):
                    row[place] += event[metric]
        rows = [
            {
                "dimensionValues": [{"value": value} for value in values],
                "metricValues": [{"value": str(total)} for total in totals],
            }
            for values, totals in sorted(sums.items())
        ]
        left = {"consumed": 1, "remaining": self.quota}
        answer: dict[str, Any] = {
            "dimensionHeaders": [{"name": name} for name in dimensions],
            "metricHeaders": [{"name": name, "type": "TYPE_INTEGER"} for name in metrics],
            "rows": rows[offset : offset + limit],
            "rowCount": len(rows),
            "metadata": {"currencyCode": "USD", "timeZone": "America/New_York"},
            "propertyQuota": {
                "tokensPerDay": left,
                "tokensPerHour": left,
                "concurrentRequests": {"remaining": 10},
            }
            if asked.get("returnPropertyQuota")
            else {},
            "kind": "analyticsData#runReport",
        }
        return {name: value for name, value in answer.items() if value}


def _inside(day: str, between: dict[str, str]) -> bool:
    return (
        _day(between["startDate"])
        <= datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date()
        <= _day(between["endDate"])
    )


def _day(text: str) -> date:
    today = datetime.now(UTC).date()
    named = {"today": 0, "yesterday": 1}
    if text in named or text.endswith("daysAgo"):
        return today - timedelta(days=named.get(text, int(text.removesuffix("daysAgo") if text not in named else 0)))
    return date.fromisoformat(text)


def _error(code: int, status: str, message: str) -> Reply:
    return as_json(code, {"error": {"code": code, "message": message, "status": status}})


def visit(day: int, country: str, sessions: int = 1) -> dict[str, Any]:
    """Sessions of one day of January 2024 from one country, and as many users."""
    return {"date": f"202401{day:02}", "country": country, "sessions": sessions, "activeUsers": sessions}
