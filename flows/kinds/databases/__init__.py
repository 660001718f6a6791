"""MySQL, MariaDB, SQLite and SQL Server, read by Arrow."""

from flows.declare.database import Database
from flows.declare.table import Table

__all__ = ["Database", "Table"]
