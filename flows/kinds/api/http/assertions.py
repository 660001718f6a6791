"""Signed assertions (RFC 7523): who we are, for a token server or an API."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.tokens import JwtBearer
from flows.kinds.api.http.failure import AttemptFailed, key_variable
from flows.kinds.api.http.grants import FORM, Client, Granted, Sent, bearer_in, grant_form, identity_of
from flows.values.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed assertion (RFC 7523). `client` has the issuer and the private key."""

    api: Api
    auth: JwtBearer
    url: httpx.URL
    client: Client
    key_id: str = ""

    @property
    def identity(self) -> str:
        """By the issuer, its key and what is requested."""
        return identity_of(str(self.url), self.client.user, self.client.secret, repr(self.auth))

    def signed(self) -> str:
        """The assertion, good from now on.

        Raises:
            AttemptFailed: the configured key is not one for the declared algorithm.
        """
        auth, now = self.auth, int(time.time())
        claims: dict[str, object] = {
            "iss": self.client.user,
            "sub": auth.subject or self.client.user,
            "aud": auth.audience or str(self.url),
            "iat": now,
            "exp": now + int(auth.lasts.total_seconds()),
            "jti": str(uuid.uuid4()),
        }
        if auth.token_url and auth.scope and auth.proves == "grant":
            claims["scope"] = auth.scope  # where Google looks for it; others read the form
        claims |= dict(auth.claims)
        headers = ({"kid": self.key_id} if self.key_id else {}) | dict(auth.headers)
        import jwt  # with cryptography 10 MB, which only those need who sign

        try:
            return jwt.encode(claims, self.client.secret, algorithm=auth.algorithm, headers=headers)
        except Exception:  # noqa: S110 # nosec B110 - of several libraries, and their texts may quote the key
            pass
        raise AttemptFailed(
            f"the private key cannot sign by {auth.algorithm}",
            f"set {key_variable(self.api)} to the key in PEM, or to the JSON file of the service account",
            kind=ConfigurationError,
        )

    def request(self) -> Sent:
        """The assertion as the grant, or as the client's proof."""
        if self.auth.proves == "grant":
            kind, own = "urn:ietf:params:oauth:grant-type:jwt-bearer", [("assertion", self.signed())]
        else:
            proof = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            kind, own = "client_credentials", [("client_assertion_type", proof), ("client_assertion", self.signed())]
        return {"Content-Type": FORM}, urlencode(grant_form(self.auth, kind, *own)).encode()

    def granted(self, content: bytes, headers: httpx.Headers) -> Granted:
        """A bearer token."""
        return bearer_in(content, self.api)
