"""Documents of the stores that keep credentials, as plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flows.values.settings import settings


def secret_document(name: str) -> Mapping[str, Any] | None:
    """The secret of that name, if MEDALLION_SECRETS_PREFIX is set and the secret has a value."""
    if not settings().secrets_prefix:
        return None
    from blocks.aws import secret  # imports prefect-aws, which takes two seconds
    from blocks.lookup import document_name

    return secret(document_name(name))


def block_document(name: str, stack: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The Prefect block of that name, when a Prefect API other than the one of the embedded `stack` is configured.

    The embedded stack's URLs are in its own file; reading them from its server would only cost time.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    # Flow runs of `medallion worker` reach the embedded server through its relay.
    embedded = ((stack.get("prefect") or {}).get("api_url"), os.environ.get("MEDALLION_RELAY_URL")) if stack else ()
    if not api_url or api_url in embedded:
        return None
    from blocks.lookup import find  # imports Prefect, which takes a second

    return find(name)
