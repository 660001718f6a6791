"""Paginated APIs."""

from flows.kinds.api.declared.answers import When
from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.format import Csv, NdJson, Xml
from flows.kinds.api.declared.job import Job
from flows.kinds.api.declared.pagination import Cursor, LinkHeader, NextHeader, NextUrl, Offset, PageNumber, SinglePage
from flows.kinds.api.declared.parts import Field, Group, Parent, Partition
from flows.kinds.api.declared.properties import NamesAt, Properties
from flows.kinds.api.declared.rate import Rate
from flows.kinds.api.declared.sent import ApiKeyBody, ApiKeyHeader, ApiKeyQuery, Basic, Bearer, Cookie, NoAuth
from flows.kinds.api.declared.tokens import JwtBearer, Login, OAuth2, RefreshToken, SeveralKeys, Signed

__all__ = [
    "Api",
    "ApiKeyBody",
    "ApiKeyHeader",
    "ApiKeyQuery",
    "Basic",
    "Bearer",
    "ChangeToken",
    "Cookie",
    "Csv",
    "Cursor",
    "Endpoint",
    "Field",
    "Group",
    "Job",
    "JwtBearer",
    "LinkHeader",
    "Login",
    "NamesAt",
    "NdJson",
    "NextHeader",
    "NextUrl",
    "NoAuth",
    "OAuth2",
    "Offset",
    "PageNumber",
    "Parent",
    "Partition",
    "Properties",
    "Rate",
    "RefreshToken",
    "SeveralKeys",
    "Signed",
    "Since",
    "SinglePage",
    "When",
    "Xml",
]
