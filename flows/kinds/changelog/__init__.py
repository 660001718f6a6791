"""PostgreSQL, read from its log."""

from flows.declare.database import Database
from flows.declare.log import Log
from flows.declare.table import Table

__all__ = ["Database", "Log", "Table"]
