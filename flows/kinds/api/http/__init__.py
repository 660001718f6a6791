"""Requests to an API, and their answers."""

from __future__ import annotations

import sys

# httpx imports its command line if click and rich are installed: 0.05 of the 0.6 CPU seconds in which a load starts.
# It goes without if that part cannot be imported. Where httpx is imported already, as in Prefect, nothing changes.
if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    try:
        import httpx  # noqa: F401
    finally:
        del sys.modules["httpx._main"]
