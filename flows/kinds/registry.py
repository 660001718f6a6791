"""Every kind of source: one line each. The name is the folder's, and what a declared source calls its `kind`."""

from __future__ import annotations

from typing import Any

from flows.declare.source import Source
from flows.kinds.api.kind import Apis
from flows.kinds.databases.kind import Databases
from flows.kinds.dlt.kind import Dlt
from flows.kinds.kind import Kind
from flows.kinds.postgres.kind import Postgres

KINDS: dict[str, Kind[Any, Any]] = {
    "postgres": Postgres(),
    "databases": Databases(),
    "api": Apis(),
    "dlt": Dlt(),
}


def kind_of(source: Source) -> Kind[Any, Any]:
    """What knows how to read the source."""
    return KINDS[source.kind]
