"""Timeouts, retries and size limits of API reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one read of an endpoint.

        HttpLimits()                          defaults for scheduled runs
        HttpLimits(wait_budget_seconds=0)     never wait for rate limits: raise RateLimited, reschedule
        HttpLimits(request_seconds=600)       an API that computes for minutes before it responds
        HttpLimits(max_body_bytes=500 << 20)  pages of several hundred megabytes

    Two kinds of waits have different limits. A failure (5xx, a reset, a truncated body) is retried up to `max_attempts`
    times per page with growing pauses. A rate limit (429, or any Retry-After) is obeyed in full as long as the waits
    of a read stay within `wait_budget_seconds` in total.
    """

    max_attempts: int = 6
    """Attempts per page, including the first."""
    backoff_seconds: float = 0.5
    """The first pause; each further one doubles, up to `backoff_cap_seconds`, minus a random part of up to a half."""
    backoff_cap_seconds: float = 30.0
    wait_budget_seconds: float = 300.0
    """Seconds that waits requested by the API may take in total."""
    connect_seconds: float = 10.0
    """To open a connection, including TLS."""
    read_seconds: float = 60.0
    """Between two chunks of a response. Does not bound the full response: a slow drip resets it with every byte."""
    request_seconds: float = 120.0
    """From sending a request to the last byte of its response; ends a slow drip."""
    max_body_bytes: int = 64 << 20
    """Of one response, after decompression. 51 KB of gzip can hold 50 MB, so this is checked while decompressing."""
    max_document_bytes: int = 20 << 30
    """Of one document that is not JSON, as received and unpacked: it is kept on the disk. Another bound, above
    `max_body_bytes`, is 250 times what was received."""
    max_idle_pages: int = 20
    """Pages that are empty one after the other, or repeat an earlier one, before pagination counts as stuck."""
    max_pages: int = 100_000
    """Pages of one list in one run. The next run goes on behind them."""
    longest_wait_seconds: float = 86_400.0
    """The longest wait that an API may request; a longer one is taken for this one, and reported."""
