"""Rate limit headers of APIs."""

import re
import time
from collections.abc import Mapping

import httpx

from flows.kinds.api.http.date import http_date

_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_RESET = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_NUMBER = re.compile(r"\d{1,13}(\.\d{1,9})?")
# A leaky bucket leaks two calls per second (Shopify: 40 calls, 2 per second).
_LEAK_SECONDS = 0.5
# A reset above this is a Unix timestamp, not a number of seconds.
_EPOCH_BEGINS = 1_000_000_000


def pause_asked(headers: httpx.Headers) -> float:
    """Seconds until the next request is allowed; 0 if it is now.

        X-RateLimit-Remaining: 0      X-RateLimit-Reset: 1767225600     until that time
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
    reset = _first_number(headers, _RESET)
    if remaining is None or remaining > 0 or reset is None:
        return 0.0
    return max(0.0, reset - _now(headers)) if reset > _EPOCH_BEGINS else reset


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
