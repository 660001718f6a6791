"""Sources of dlt."""

from flows.kinds.dlt.declared import DltSource, Resource

__all__ = ["DltSource", "Resource"]
