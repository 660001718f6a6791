"""An imitation of Xero: its identity server and its Accounting API.

After https://developer.xero.com/documentation/guides/oauth2/auth-flow and …/api/accounting/invoices.

    POST /connect/token    grant_type=refresh_token&refresh_token=…     Authorization: Basic client:secret
    → {"access_token": "…", "expires_in": 1800, "token_type": "Bearer", "refresh_token": "…"}
    GET /api.xro/2.0/Invoices?page=1&pageSize=100    Xero-Tenant-Id: …
    → {"Id": "…", "Status": "OK", "pagination": {"page": 1, "pageSize": 100, "pageCount": 2, "itemCount": 150},
       "Invoices": [{"InvoiceID": "…", …}]}

A refresh token is replaced with every use. The one before stays valid for a grace period (30 minutes at Xero); after
that, its use is `invalid_grant`, and the app must be authorised again.
"""

import base64
import math
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json

CLIENT_ID, CLIENT_SECRET, TENANT = "xero-client", "canary-xero-2b", "5a1b"


@dataclass
class XeroIdentity(Imitation):
    """Exchanges refresh tokens. `used` maps each that was exchanged to the time of its first exchange."""

    grace: float = 1800.0
    lifetime: int = 1800
    valid: str = ""
    used: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)

    def authorise(self) -> str:
        """A person authorises the app: everything issued before is void."""
        self.valid = f"canary-refresh-{secrets.token_hex(8)}"
        self.used.clear()
        self.access.clear()
        return self.valid

    def good(self, asked: Asked) -> bool:
        """Whether a request brings an access token that is still alive."""
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        return scheme == "Bearer" and self.access.get(token, 0.0) > time.monotonic()

    def answer(self, asked: Asked) -> Reply:
        """Other tokens for the refresh token that is valid."""
        form = dict(parse_qsl(asked.body.decode()))
        client = base64.b64decode(asked.headers.get("authorization", "").removeprefix("Basic ")).decode()
        if client != f"{CLIENT_ID}:{CLIENT_SECRET}":
            return as_json(400, {"error": "invalid_client"})
        token = form.get("refresh_token", "")
        is_late = time.monotonic() - self.used.get(token, -math.inf) > self.grace
        if form.get("grant_type") != "refresh_token" or (token != self.valid and is_late):
            return as_json(400, {"error": "invalid_grant"})
        self.used.setdefault(token, time.monotonic())
        self.valid = f"canary-refresh-{secrets.token_hex(8)}"
        access = f"canary-access-{secrets.token_hex(8)}"
        self.access[access] = time.monotonic() + self.lifetime
        return as_json(
            200,
            {"access_token": access, "expires_in": self.lifetime, "token_type": "Bearer", "refresh_token": self.valid},
        )


@dataclass
class Xero(Imitation):
    """An organisation's invoices."""

    identity: XeroIdentity = field(default_factory=XeroIdentity)
    invoices: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        """A page of invoices."""
        if not self.identity.good(asked):
            return as_json(401, {"Title": "Unauthorized", "Status": 401, "Detail": "TokenExpired"})
        if asked.headers.get("xero-tenant-id") != TENANT:
            return as_json(403, {"Title": "Forbidden", "Status": 403})
        if asked.path != "/api.xro/2.0/Invoices" or asked.method != "GET":
            return as_json(404, {"Title": "Not found"})
        page, size = int(asked.query.get("page", 1)), min(1000, int(asked.query.get("pageSize", 100)))
        shown = self.invoices[(page - 1) * size : page * size]
        pages = -(-len(self.invoices) // size)
        paging = {"page": page, "pageSize": size, "pageCount": pages, "itemCount": len(self.invoices)}
        return as_json(200, {"Id": "a", "Status": "OK", "pagination": paging, "Invoices": shown})


def invoice(number: int) -> dict[str, Any]:
    """An invoice as the API writes one."""
    return {"InvoiceID": f"inv-{number:04}", "Type": "ACCREC", "Total": number / 4, "LineItems": [{"Quantity": 1.0}]}
