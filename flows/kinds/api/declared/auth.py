"""All kinds of authentication."""

from flows.kinds.api.declared.sent import ApiKeyHeader, ApiKeyQuery, Basic, Bearer, Cookie, NoAuth
from flows.kinds.api.declared.tokens import JwtBearer, Login, OAuth2, RefreshToken, SeveralKeys, Signed

Auth = (
    ApiKeyHeader
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
