"""The nouns: what a source is made of. Frozen, and refusing nonsense when they are made."""

from flows.spec.api import Api, ApiKeyHeader, ApiKeyQuery, Endpoint, LinkHeader, NoAuth, SinglePage
from flows.spec.connection import ApiConnection, DatabaseConnection
from flows.spec.cursor import Sequence, Since, Timestamp, TransactionId
from flows.spec.database import Database, Table
from flows.spec.dlt import DltSource, Resource
from flows.spec.load import Append, Merge, Overwrite, Replace
from flows.spec.rule import Rule

Source = Database | Api | DltSource
Loadable = Table | Endpoint | Resource

__all__ = [
    "Api",
    "ApiConnection",
    "ApiKeyHeader",
    "ApiKeyQuery",
    "Append",
    "Database",
    "DatabaseConnection",
    "DltSource",
    "Endpoint",
    "LinkHeader",
    "Loadable",
    "Merge",
    "NoAuth",
    "Overwrite",
    "Replace",
    "Resource",
    "Rule",
    "Sequence",
    "Since",
    "SinglePage",
    "Source",
    "Table",
    "Timestamp",
    "TransactionId",
]
