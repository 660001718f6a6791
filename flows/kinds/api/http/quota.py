"""Rate limit headers of APIs."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from flows.kinds.api.http.date import http_date

_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_RESET = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
# Always a time from now, in seconds and in milliseconds.
_RESET_AFTER = ("x-ratelimit-reset-after", "x-rate-limit-reset-after", "ratelimit-reset-after")
_RESET_MS = (
    "x-ratelimit-reset-ms",
    "x-rate-limit-reset-ms",
    "ratelimit-reset-ms",
    "x-ratelimit-reset-after-ms",
    "x-ratelimit-interval-reset-ms",
)
_NUMBER = re.compile(r"\d{1,19}(\.\d{1,9})?")
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
# A leaky bucket leaks two calls per second (Shopify: 40 calls, 2 per second).
_LEAK_SECONDS = 0.5
# A reset above this is a Unix timestamp, not a number of seconds; above the next: in milliseconds …
_EPOCH_BEGINS = 1_000_000_000
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


def pause_asked(headers: httpx.Headers) -> float:
    """Seconds until the next request is allowed; 0 if it is now.

        X-RateLimit-Remaining: 0      X-RateLimit-Reset: 1767225600     until that time, in seconds
        X-RateLimit-Remaining: 0      X-RateLimit-Reset: 1767225600000  until that time, in milliseconds
        X-RateLimit-Remaining: 0      X-RateLimit-Reset: 2026-01-01T00:00:00Z   until that time; also an HTTP date
        X-RateLimit-Remaining: 0      X-RateLimit-Reset: 6m0s           as Go writes durations
        X-RateLimit-Remaining: 0      X-RateLimit-Reset-Ms: 1500        1.5 s; or a time in milliseconds
        X-RateLimit-Remaining: 0      X-RateLimit-Reset-After: 1.5      1.5 s
        RateLimit-Remaining: 0        RateLimit-Reset: 17               17 s
        RateLimit: "default";r=0;t=17                                   17 s
        RateLimit: limit=100, remaining=0, reset=17                     17 s
        X-Shopify-Shop-Api-Call-Limit: 40/40                            until one call has leaked
        Backoff: 30                                                     30 s

    A Unix timestamp is compared with the response's own Date, so that wrong clocks do not matter.
    """
    waits = [0.0, _from_pair(headers), _from_combined(headers.get("ratelimit", "")), _from_bucket(headers)]
    if _NUMBER.fullmatch(backoff := headers.get("backoff", "").strip()):
        waits.append(float(backoff))
    return max(waits)


def _from_pair(headers: httpx.Headers) -> float:
    remaining = _first_number(headers, _REMAINING)
    if remaining is None or remaining > 0:
        return 0.0
    if (after := _first_number(headers, _RESET_AFTER)) is not None:
        return after
    if (milliseconds := _first_number(headers, _RESET_MS)) is not None:
        return _until(milliseconds, headers) if milliseconds > 1e11 else milliseconds / 1000
    for name in _RESET:
        if value := headers.get(name, "").strip():
            return pause_in(value, headers)
    return 0.0


def pause_in(value: str, headers: httpx.Headers) -> float:
    """Seconds until a reset, however it is written; 0 if it is not understood."""
    if _NUMBER.fullmatch(value):
        number = float(value)
        return _until(number, headers) if number > _EPOCH_BEGINS else number
    if found := _DURATION.fullmatch(value):
        days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    moment = http_date(value)
    if moment is None:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - _now(headers))


def _until(epoch: float, headers: httpx.Headers) -> float:
    """Seconds until a Unix timestamp, in whatever unit."""
    unit = next((unit for begins, unit in _EPOCH_UNITS if epoch > begins), 1.0)
    return max(0.0, epoch / unit - _now(headers))


def _from_combined(field: str) -> float:
    words = dict(re.findall(r"\b(r|t|remaining|reset)\s*=\s*(\d{1,9})", field))
    remaining = words.get("r", words.get("remaining"))
    reset = words.get("t", words.get("reset"))
    return float(reset) if remaining == "0" and reset is not None else 0.0


def _from_bucket(headers: httpx.Headers) -> float:
    filled = re.fullmatch(r"(\d{1,9})/(\d{1,9})", headers.get("x-shopify-shop-api-call-limit", "").strip())
    return _LEAK_SECONDS if filled and int(filled[1]) >= int(filled[2]) else 0.0


def _first_number(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        if _NUMBER.fullmatch(value := headers.get(name, "").strip()):
            return float(value)
    return None


def _now(headers: httpx.Headers) -> float:
    date = http_date(headers.get("date", ""))
    return date.timestamp() if date else time.time()
