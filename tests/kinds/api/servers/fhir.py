"""An imitation of a FHIR R4 server, after https://hl7.org/fhir/R4/http.html and …/search.html; paged as HAPI does it.

    GET /fhir/Patient?_count=50&_lastUpdated=ge2024-01-01T00:00:00Z        Authorization: Bearer …
    → application/fhir+json
      {"resourceType": "Bundle", "type": "searchset", "total": 120,
       "link": [{"relation": "self", "url": "…"}, {"relation": "next", "url": "http://…/fhir?_getpages=9f2c…&…"}],
       "entry": [{"fullUrl": "http://…/fhir/Patient/p1", "search": {"mode": "match"},
                  "resource": {"resourceType": "Patient", "id": "p1", "meta": {"lastUpdated": "…"}, …}}]}

What makes it awkward: a list that is empty is not written, so a search without a match has no `entry`; the pages of a
search are of the moment it was made, and gone (410) when the server has forgotten it; errors are OperationOutcomes,
and a server may put one among the entries (`search.mode` is `outcome`) to warn.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any
from urllib.parse import urlencode

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json, moment

TOKEN = "canary-fhir-b7e4"
_TYPES = ("Patient", "Observation", "Consent")
_FHIR_JSON = "application/fhir+json;charset=UTF-8"
_PREFIXES: dict[str, Callable[[Any, Any], bool]] = {"ge": ge, "gt": gt, "le": le, "lt": lt}


@dataclass
class Fhir(Imitation):
    """Resources by type and id, and the searches whose pages may still be asked for."""

    resources: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in _TYPES})
    searches: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Whether a search's last page ends with a warning among its entries.
    warns: bool = False

    def put(self, *resources: dict[str, Any]) -> None:
        """Create resources, or replace those of the same type and id."""
        for resource in resources:
            self.resources[resource["resourceType"]][resource["id"]] = resource

    def clear(self) -> None:
        """A server without resources or searches, and nothing asked yet."""
        self.begin()
        self.resources = {kind: {} for kind in _TYPES}
        self.searches, self.warns = {}, False

    def answer(self, asked: Asked) -> Reply:
        """The token, then a search or one of its pages."""
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return _outcome(401, "login", "the token is not known", "WWW-Authenticate: Bearer")
        if asked.path.rstrip("/") == "/fhir" and "_getpages" in asked.query:
            return self._next_page(asked)
        kind = asked.path.removeprefix("/fhir/").rstrip("/")
        if kind not in self.resources or asked.method != "GET":
            return _outcome(404, "not-found", "unknown resource type")
        try:
            found = self._search(kind, asked)
        except ValueError as problem:
            return _outcome(400, "invalid", str(problem))
        search = secrets.token_hex(8)
        self.searches[search] = found
        return self._bundle(search, 0, int(asked.query.get("_count", 20)))

    def _search(self, kind: str, asked: Asked) -> list[dict[str, Any]]:
        found = sorted(self.resources[kind].values(), key=lambda one: (moment(one["meta"]["lastUpdated"]), one["id"]))
        for name, value in asked.query.items():
            if name == "_lastUpdated":
                compare = _PREFIXES.get(value[:2])
                if compare is None:
                    raise ValueError("a range wants a prefix: ge, gt, le or lt")
                found = [one for one in found if compare(moment(one["meta"]["lastUpdated"]), moment(value[2:]))]
            elif name not in ("_count", "_sort", "_format"):
                raise ValueError(f"unknown search parameter {name}")
        return found

    def _next_page(self, asked: Asked) -> Reply:
        search = asked.query["_getpages"]
        if search not in self.searches:
            return _outcome(410, "expired", "the search is not known; it may have expired")
        return self._bundle(search, int(asked.query["_getpagesoffset"]), int(asked.query["_count"]))

    def _bundle(self, search: str, offset: int, count: int) -> Reply:
        found = self.searches[search]
        links = [{"relation": "self", "url": self._page_url(search, offset, count)}]
        last = offset + count >= len(found)
        if not last:
            links.append({"relation": "next", "url": self._page_url(search, offset + count, count)})
        entries = [
            {
                "fullUrl": f"{self.url}/fhir/{one['resourceType']}/{one['id']}",
                "resource": one,
                "search": {"mode": "match"},
            }
            for one in found[offset : offset + count]
        ]
        if self.warns and last:
            entries.append({"resource": _issue("warning", "informational", "a note"), "search": {"mode": "outcome"}})
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "id": search,
            "type": "searchset",
            "total": len(found),
            "link": links,
        }
        if entries:
            bundle["entry"] = entries
        return as_json(200, bundle, content_type=_FHIR_JSON)

    def _page_url(self, search: str, offset: int, count: int) -> str:
        place = {"_getpages": search, "_getpagesoffset": offset, "_count": count, "_bundletype": "searchset"}
        return f"{self.url}/fhir?{urlencode(place)}"


def _issue(severity: str, code: str, text: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": text}],
    }


def _outcome(status: int, code: str, text: str, *headers: str) -> Reply:
    return as_json(status, _issue("error", code, text), *headers, content_type=_FHIR_JSON)


def patient(number: int, updated: str = "2024-01-02T09:00:00.000+00:00", **more: Any) -> dict[str, Any]:
    """A patient."""
    name = [{"family": f"Family{number}", "given": ["A", "B"]}]
    return _resource("Patient", f"p{number}", updated) | {"name": name, "birthDate": "1970-01-01", **more}


def observation(number: int, updated: str = "2024-01-02T09:00:00.000+00:00") -> dict[str, Any]:
    """A measurement that is final."""
    return _resource("Observation", f"o{number}", updated) | {
        "status": "final",
        "subject": {"reference": f"Patient/p{number % 10}"},
        "valueQuantity": {"value": 6, "unit": "mmol/L"},
    }


def consent(number: int, updated: str = "2024-01-02T09:00:00.000+00:00") -> dict[str, Any]:
    """A consent that is in force."""
    return _resource("Consent", f"c{number}", updated) | {
        "status": "active",
        "patient": {"reference": f"Patient/p{number}"},
        "provision": {"type": "permit"},
    }


def _resource(kind: str, name: str, updated: str) -> dict[str, Any]:
    return {"resourceType": kind, "id": name, "meta": {"versionId": "1", "lastUpdated": updated}}
