"""PostgreSQL, read by COPY."""

from flows.declare.database import Database, Table

__all__ = ["Database", "Table"]
