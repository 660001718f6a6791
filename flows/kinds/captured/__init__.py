"""PostgreSQL, MySQL and MariaDB, read by the keys that triggers record."""

from flows.declare.database import Database
from flows.declare.table import Table
from flows.declare.triggers import Triggers

__all__ = ["Database", "Table", "Triggers"]
