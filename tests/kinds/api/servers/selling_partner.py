"""An imitation of Amazon's Selling Partner API, reports, and of the store that has their documents.

After https://developer-docs.amazon.com/sp-api/docs/reports-api-v2021-06-30-use-case-guide. Access tokens come from
Login with Amazon by a refresh token, and are sent as `x-amz-access-token`.

    POST /reports/2021-06-30/reports    {"reportType": "GET_FLAT_FILE…", "marketplaceIds": ["A1"], "dataStartTime": "…"}
    → 202 {"reportId": "5001"}
    GET /reports/2021-06-30/reports/5001
    → {"reportId": "5001", "processingStatus": "DONE", "reportDocumentId": "amzn1.spdoc.1"}
    GET /reports/2021-06-30/documents/amzn1.spdoc.1
    → {"reportDocumentId": "amzn1.spdoc.1", "url": "https://…?X-Amz-Signature=…", "compressionAlgorithm": "GZIP"}
    GET https://…?X-Amz-Signature=…
    → tab-separated text, gzip. The URL is valid for five minutes, and refuses requests with another authorization.
"""

import gzip
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json

CLIENT_ID, CLIENT_SECRET = "amzn1.application", "canary-amazon-2c"
ROOT = "/reports/2021-06-30"
COLUMNS = ("amazon-order-id", "last-updated-date", "product-name", "sku")


@dataclass
class Store(Imitation):
    """An object store: `documents` by name, `signatures` that are valid now."""

    documents: dict[str, bytes] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)

    def presigned(self, name: str) -> str:
        """A URL with a signature."""
        signature = f"canary-{secrets.token_hex(8)}"
        self.signatures[signature] = name
        return f"{self.url}/reports/{name}?X-Amz-Signature={signature}"

    def answer(self, asked: Asked) -> Reply:
        """The document that the signature is for."""
        name = self.signatures.get(asked.query.get("X-Amz-Signature", ""))
        if {"authorization", "x-amz-access-token"} & asked.headers.keys():
            return Reply(400, b"<Error><Code>InvalidArgument</Code></Error>", content_type="application/xml")
        if name is None or asked.path != f"/reports/{name}":
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>", content_type="application/xml")
        return Reply(200, self.documents[name], content_type="application/octet-stream")


@dataclass
class LoginWithAmazon(Imitation):
    """Exchanges a refresh token that stays valid: the response has no other one."""

    refresh_token: str = "canary-lwa-refresh"
    tokens: set[str] = field(default_factory=set)

    def answer(self, asked: Asked) -> Reply:
        """An access token."""
        form = dict(parse_qsl(asked.body.decode()))
        client = (form.get("client_id"), form.get("client_secret"))
        if form.get("refresh_token") != self.refresh_token or client != (CLIENT_ID, CLIENT_SECRET):
            return as_json(400, {"error": "invalid_grant"})
        token = f"canary-lwa-{secrets.token_hex(8)}"
        self.tokens.add(token)
        return as_json(200, {"access_token": token, "token_type": "bearer", "expires_in": 3600})


@dataclass
class SellingPartner(Imitation):
    """A seller's orders. `doomed` reports end as FATAL."""

    store: Store = field(default_factory=Store)
    login: LoginWithAmazon = field(default_factory=LoginWithAmazon)
    orders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: int = 2
    doomed: int = 0
    encoding: str = "cp1252"

    def put(self, *numbers: int, version: int = 1) -> None:
        """Create or change orders."""
        for number in numbers:
            at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=version, seconds=number)
            name = f'Tafel 5" "Groß" {number}'
            self.orders[f"302-{number:05}"] = (f"302-{number:05}", at.isoformat(), name, f"sku-{number}")

    def answer(self, asked: Asked) -> Reply:
        """Create, poll, the document's address."""
        if asked.headers.get("x-amz-access-token") not in self.login.tokens:
            return as_json(403, {"errors": [{"code": "Unauthorized", "message": "Access token is missing"}]})
        if (asked.method, asked.path) == ("POST", f"{ROOT}/reports"):
            return self._create(json.loads(asked.body))
        if (found := re.fullmatch(rf"{ROOT}/reports/(\w+)", asked.path)) and found[1] in self.reports:
            return self._poll(self.reports[found[1]])
        if (found := re.fullmatch(rf"{ROOT}/documents/([\w.]+)", asked.path)) and found[1] in self.store.documents:
            told = {"reportDocumentId": found[1], "url": self.store.presigned(found[1]), "compressionAlgorithm": "GZIP"}
            return as_json(200, told)
        return as_json(404, {"errors": [{"code": "NotFound", "message": "no such resource"}]})

    def _create(self, body: dict[str, Any]) -> Reply:
        if body.get("reportType") != "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL":
            return as_json(400, {"errors": [{"code": "InvalidInput", "message": "unknown report type"}]})
        if not body.get("marketplaceIds"):
            return as_json(400, {"errors": [{"code": "InvalidInput", "message": "marketplaceIds is required"}]})
        since = datetime.fromisoformat(body.get("dataStartTime", "2000-01-01T00:00:00+00:00"))
        name = f"500{len(self.reports)}"
        rows = [row for row in self.orders.values() if datetime.fromisoformat(row[1]) >= since]
        self.reports[name] = {"rows": rows, "left": self.polls, "fails": self.doomed > 0, "id": name}
        self.doomed -= 1
        return as_json(202, {"reportId": name})

    def _poll(self, report: dict[str, Any]) -> Reply:
        report["left"] -= 1
        told = {"reportId": report["id"], "processingStatus": "IN_PROGRESS"}
        if report["left"] <= 0 and report["fails"]:
            told["processingStatus"] = "FATAL"
        elif report["left"] <= 0:
            document = f"amzn1.spdoc.{report['id']}"
            lines = ["\t".join(row) for row in (COLUMNS, *report["rows"])]
            text = "".join(f"{line}\r\n" for line in lines).encode(self.encoding)
            self.store.documents.setdefault(document, gzip.compress(text))
            told |= {"processingStatus": "DONE", "reportDocumentId": document}
        return as_json(200, told)
