"""The nouns: what a source is made of. Frozen, and refusing nonsense when they are made."""

from flows.spec.api import Api
from flows.spec.auth import ApiKeyHeader, ApiKeyQuery, Basic, Bearer, NoAuth, OAuth2
from flows.spec.connection import ApiConnection, DatabaseConnection
from flows.spec.cursor import ChangeToken, Sequence, Since, Timestamp, TransactionId
from flows.spec.database import Database, Table
from flows.spec.dlt import DltSource, Resource
from flows.spec.endpoint import Endpoint, Field, Parent
from flows.spec.load import Append, Merge, Overwrite, Replace
from flows.spec.pagination import Cursor, LinkHeader, NextHeader, NextUrl, Offset, PageNumber, SinglePage
from flows.spec.rate import Rate
from flows.spec.retention import Keep
from flows.spec.rule import Rule
from flows.spec.subject import Subject

Source = Database | Api | DltSource
Loadable = Table | Endpoint | Resource

__all__ = [
    "Api",
    "ApiConnection",
    "ApiKeyHeader",
    "ApiKeyQuery",
    "Append",
    "Basic",
    "Bearer",
    "ChangeToken",
    "Cursor",
    "Database",
    "DatabaseConnection",
    "DltSource",
    "Endpoint",
    "Field",
    "Keep",
    "LinkHeader",
    "Loadable",
    "Merge",
    "NextHeader",
    "NextUrl",
    "NoAuth",
    "OAuth2",
    "Offset",
    "Overwrite",
    "PageNumber",
    "Parent",
    "Rate",
    "Replace",
    "Resource",
    "Rule",
    "Sequence",
    "Since",
    "SinglePage",
    "Source",
    "Subject",
    "Table",
    "Timestamp",
    "TransactionId",
]
