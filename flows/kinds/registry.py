"""Every kind of source: a function and a line each. The name is the folder's, and a declared source's `kind`.

A kind is imported when it is first used: a load of PostgreSQL needs no HTTP client, which takes 0.2 s and 15 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flows.declare.source import Source
from flows.kinds.kind import Kind


class _Later:
    """A kind that is made when something of it is first used."""

    def __init__(self, make: Callable[[], Kind[Any, Any]]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        if name == "_made":
            self._made = self._make()
            return self._made
        return getattr(self._made, name)


def _postgres() -> Kind[Any, Any]:
    from flows.kinds.postgres.kind import Postgres

    return Postgres()


def _databases() -> Kind[Any, Any]:
    from flows.kinds.databases.kind import Databases

    return Databases()


def _api() -> Kind[Any, Any]:
    import flows.kinds.api.http  # noqa: F401, first: it leaves out a part of httpx
    from flows.kinds.api.kind import Apis

    return Apis()


def _dlt() -> Kind[Any, Any]:
    from flows.kinds.dlt.kind import Dlt

    return Dlt()


def _files() -> Kind[Any, Any]:
    from flows.kinds.files.kind import FileDrops

    return FileDrops()


def _changelog() -> Kind[Any, Any]:
    from flows.kinds.changelog.kind import Changelog

    return Changelog()


def _captured() -> Kind[Any, Any]:
    from flows.kinds.captured.kind import Captured

    return Captured()


def _debezium() -> Kind[Any, Any]:
    from flows.kinds.debezium.kind import DebeziumEvents

    return DebeziumEvents()


_MADE_BY = {
    "postgres": _postgres,
    "databases": _databases,
    "api": _api,
    "dlt": _dlt,
    "files": _files,
    "changelog": _changelog,
    "captured": _captured,
    "debezium": _debezium,
}

KINDS: dict[str, Kind[Any, Any]] = {name: cast("Kind[Any, Any]", _Later(make)) for name, make in _MADE_BY.items()}


def kind_of(source: Source) -> Kind[Any, Any]:
    """What knows how to read the source."""
    return KINDS[source.kind]
