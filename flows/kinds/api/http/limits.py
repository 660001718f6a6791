"""How long we wait for an API, and how much we take from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one read of an endpoint.

        HttpLimits()                          what a scheduled run wants
        HttpLimits(wait_budget_seconds=0)     never wait when an API asks us to: raise RateLimited, reschedule
        HttpLimits(request_seconds=600)       an API that computes for minutes before it answers
        HttpLimits(max_body_bytes=500 << 20)  pages of several hundred megabytes

    Two kinds of waiting are bounded differently. A failure (5xx, a reset, a cut body) is tried `max_attempts` times
    per page with growing pauses. A request to slow down (429, or any Retry-After) is obeyed in full as long as such
    waits together stay within `wait_budget_seconds` for the whole read.
    """

    max_attempts: int = 6
    """Tries per page, the first included."""
    backoff_seconds: float = 0.5
    """The first pause; each further one is twice as long, up to `backoff_cap_seconds`, less up to half by chance."""
    backoff_cap_seconds: float = 30.0
    wait_budget_seconds: float = 300.0
    """Seconds that waits asked for by the API may take together."""
    connect_seconds: float = 10.0
    """To open a connection, TLS included."""
    read_seconds: float = 60.0
    """Between two pieces of an answer. Says nothing about the whole: a slow drip resets it with every byte."""
    request_seconds: float = 120.0
    """From sending a request to the last byte of its answer: what ends a slow drip."""
    max_body_bytes: int = 64 << 20
    """Of one answer, after decompression. 51 KB of gzip can hold 50 MB, so this is checked while decompressing."""
    max_idle_pages: int = 20
    """Pages in a row that are empty, or the same as the one before, until paging is taken to be stuck."""
