"""PostgreSQL, read by COPY."""

from flows.declare.database import Database
from flows.declare.table import Table

__all__ = ["Database", "Table"]
