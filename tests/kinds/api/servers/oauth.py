"""An OAuth2 token endpoint for client credentials, after RFC 6749, section 4.4.

POST /token    grant_type=client_credentials&client_id=…&client_secret=…      (or the client as basic auth)
→ {"access_token": "…", "token_type": "Bearer", "expires_in": 3600}
"""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl, unquote_plus

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json

CLIENT_ID, CLIENT_SECRET = "medallion-client", "canary-oauth-91d7"


@dataclass
class TokenEndpoint(Imitation):
    """Hands out tokens that live for `lifetime` seconds; `tokens` maps each to the moment it ends."""

    lifetime: float = 3600.0
    tokens: dict[str, float] = field(default_factory=dict)
    #: Any path will do; a new one is another endpoint to a client that keeps its token.
    path: str = "/token"

    @property
    def address(self) -> str:
        """Where tokens are asked for."""
        return f"{self.url}{self.path}"

    def good(self, asked: Asked) -> bool:
        """Whether a request to another server brings a token that is still alive."""
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        return scheme == "Bearer" and self.tokens.get(token, 0.0) > time.monotonic()

    def revoke(self) -> None:
        """No token handed out so far is good any more, whatever was promised."""
        self.tokens.clear()

    def answer(self, asked: Asked) -> Reply:
        """A new token for the right client."""
        form = dict(parse_qsl(asked.body.decode()))
        if asked.method != "POST" or asked.headers.get("content-type") != "application/x-www-form-urlencoded":
            return as_json(400, {"error": "invalid_request"})
        if form.get("grant_type") != "client_credentials":
            return as_json(400, {"error": "unsupported_grant_type"})
        if _client(asked, form) != (CLIENT_ID, CLIENT_SECRET):
            return as_json(401, {"error": "invalid_client"}, 'WWW-Authenticate: Basic realm="token"')
        token = secrets.token_urlsafe(24)
        self.tokens[token] = time.monotonic() + self.lifetime
        # Whole seconds, as the RFC has it: a lifetime of 0.3 s is promised as 1.
        promised = max(1, round(self.lifetime))
        return as_json(
            200,
            {"access_token": token, "token_type": "Bearer", "expires_in": promised},
            "Cache-Control: no-store",
            "Pragma: no-cache",
        )


def _client(asked: Asked, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


@dataclass
class ServiceAccounts(TokenEndpoint):
    """Google's token endpoint for service accounts: tokens for assertions (RFC 7523) that are signed by `key`."""

    email: str = "etl@shop.iam.gserviceaccount.com"

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        """The account's key."""
        return rsa.generate_private_key(65537, 2048)

    @property
    def file(self) -> str:
        """The JSON file that Google's console exports."""
        form = serialization.PrivateFormat.PKCS8
        pem = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return json.dumps({"type": "service_account", "client_email": self.email, "private_key": pem})

    def answer(self, asked: Asked) -> Reply:
        """A token for the right assertion."""
        form = dict(parse_qsl(asked.body.decode()))
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return as_json(400, {"error": "unsupported_grant_type"})
        try:
            claims = jwt.decode(form["assertion"], self.key.public_key(), ["RS256"], audience=self.address)
        except jwt.PyJWTError:
            return as_json(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        if claims["iss"] != self.email or claims["exp"] - claims["iat"] > 3600 or "scope" not in claims:
            return as_json(400, {"error": "invalid_scope"})
        token = secrets.token_urlsafe(24)
        self.tokens[token] = time.monotonic() + self.lifetime
        return as_json(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3599})
