"""Paginated APIs."""

from flows.kinds.api.declared.answers import When
from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.auth import ApiKeyHeader, ApiKeyQuery, Basic, Bearer, NoAuth, OAuth2
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import Cursor, LinkHeader, NextHeader, NextUrl, Offset, PageNumber, SinglePage
from flows.kinds.api.declared.parts import Field, Parent, Partition
from flows.kinds.api.declared.rate import Rate

__all__ = [
    "Api",
    "ApiKeyHeader",
    "ApiKeyQuery",
    "Basic",
    "Bearer",
    "ChangeToken",
    "Cursor",
    "Endpoint",
    "Field",
    "LinkHeader",
    "NextHeader",
    "NextUrl",
    "NoAuth",
    "OAuth2",
    "Offset",
    "PageNumber",
    "Parent",
    "Partition",
    "Rate",
    "Since",
    "SinglePage",
    "When",
]
