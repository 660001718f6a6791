"""All kinds of authentication."""

from flows.kinds.api.declared.sent import ApiKeyBody, ApiKeyHeader, ApiKeyQuery, Basic, Bearer, Cookie, NoAuth
from flows.kinds.api.declared.tokens import JwtBearer, Login, OAuth2, RefreshToken, SeveralKeys, Signed

Auth = (
    ApiKeyBody
    | ApiKeyHeader
    | ApiKeyQuery
    | Basic
    | Bearer
    | Cookie
    | JwtBearer
    | Login
    | NoAuth
    | OAuth2
    | RefreshToken
    | SeveralKeys
    | Signed
)
