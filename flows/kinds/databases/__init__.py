"""MySQL, MariaDB, SQLite and SQL Server, read by Arrow."""

from flows.declare.database import Database, Table

__all__ = ["Database", "Table"]
