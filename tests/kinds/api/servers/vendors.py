"""Imitations of APIs after their public documentation: what their lists look like, and what makes them awkward.

    Zendesk        developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports
    HubSpot        developers.hubspot.com/docs/api/crm/search: 10,000 results per query, 400 beyond
    Jira           developer.atlassian.com/cloud/jira/platform/rest/v3: /search/jql, unbounded JQL is refused
    Slack          api.slack.com/apis/pagination: status 200 with ok=false; next_cursor is "" at the end
    GitHub         docs.github.com/graphql: errors with status 200; a cursor in variables
    Graph          learn.microsoft.com/graph/delta-query-overview: nextLink, then deltaLink; 410 for an old one
    Elasticsearch  elastic.co/guide/en/elasticsearch/reference/current/paginate-search-results.html
    Stripe         docs.stripe.com/api/pagination: starting_after, newest first

Each keeps `records` by id and answers from them.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json, moment

FIRST = datetime(2024, 3, 30, tzinfo=UTC)
Record = dict[str, Any]


def stamp(number: int) -> datetime:
    """When the record of that number changed; hours apart, over the change to summer time."""
    return FIRST + timedelta(hours=number)


@dataclass
class Vendor(Imitation):
    """An API with records in the order of their keys."""

    records: dict[Any, Record] = field(default_factory=dict)
    #: What each answer may be replaced by, by the number of the request.
    instead: dict[int, Callable[[], Reply]] = field(default_factory=dict)

    def make(self, number: int) -> tuple[Any, Record]:
        """The key and the record of that number."""
        raise NotImplementedError

    def put(self, *numbers: int, **changes: Any) -> None:
        """Create records, or replace them."""
        for number in numbers:
            key, record = self.make(number)
            self.records[key] = record | changes

    def answer(self, asked: Asked) -> Reply:
        """What is planned instead of this answer, or the page."""
        planned = self.instead.pop(len(self.asked), None)
        return self.page(asked) if planned is None else planned()

    def page(self, asked: Asked) -> Reply:
        """A page."""
        raise NotImplementedError

    def sorted(self, by: Callable[[Record], Any], fits: Callable[[Record], bool]) -> list[Record]:
        """The records that fit, in order."""
        return sorted(filter(fits, self.records.values()), key=by)


class Zendesk(Vendor):
    """Tickets by the time of their last change, also by the system; a start within the last minute is refused."""

    def make(self, number: int) -> tuple[Any, Record]:
        at = stamp(number)
        changed = (at - timedelta(minutes=number)).isoformat().replace("+00:00", "Z")
        return number, {
            "id": number,
            "status": "open",
            "updated_at": changed,
            "generated_timestamp": int(at.timestamp()),
        }

    def page(self, asked: Asked) -> Reply:
        assert len({"cursor", "start_time"} & asked.query.keys()) == 1, "one of both"
        at, last = (int(part) for part in asked.query.get("cursor", f"{asked.query.get('start_time')}-0").split("-"))
        if at > datetime.now(UTC).timestamp() - 60:
            return as_json(422, {"error": "StartTimeTooRecent"})
        order = self.sorted(lambda one: (one["generated_timestamp"], one["id"]),
                            lambda one: (one["generated_timestamp"], one["id"]) > (at, last))  # fmt: skip
        found, more = order[:25], len(order) > 25
        cursor = f"{found[-1]['generated_timestamp']}-{found[-1]['id']}" if found else f"{at}-{last}"
        url = f"{self.url}/api/v2/incremental/tickets/cursor.json?cursor={cursor}"
        return as_json(200, {"tickets": found, "after_url": url, "after_cursor": cursor, "before_url": None,
                             "before_cursor": None, "end_of_stream": not more})  # fmt: skip


class HubSpot(Vendor):
    """Contacts between two times; of 40 results of a query (10,000 in truth) the rest cannot be reached."""

    cap = 40

    def make(self, number: int) -> tuple[Any, Record]:
        changed = stamp(number).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return str(number), {"id": str(number), "updatedAt": changed, "properties": {"email": f"{number}@example.com"}}

    def page(self, asked: Asked) -> Reply:
        body = json.loads(asked.body)
        at, size = int(body.get("after") or 0), int(body.get("limit", 10))
        begin, end = (int(one["value"]) for one in body["filterGroups"][0]["filters"])
        found = self.sorted(
            lambda one: int(one["id"]),
            lambda one: begin <= moment(one["updatedAt"]).timestamp() * 1000 <= end,
        )
        if at + size > self.cap and at:
            return as_json(400, {"status": "error", "message": "ten thousand results"})
        shown = found[at : min(at + size, self.cap)]
        paging = (
            {"paging": {"next": {"after": str(at + len(shown)), "link": "?"}}} if at + len(shown) < len(found) else {}
        )
        return as_json(200, {"total": len(found), "results": shown, **paging})


class Jira(Vendor):
    """Issues by JQL, whose times are minutes of the user's zone."""

    zone = ZoneInfo("Europe/Vienna")

    def make(self, number: int) -> tuple[Any, Record]:
        changed = stamp(number).astimezone(self.zone)
        return str(number), {"id": str(number), "fields": {"updated": f"{changed:%Y-%m-%dT%H:%M:%S.000%z}"}}

    def page(self, asked: Asked) -> Reply:
        jql = re.fullmatch(r'updated >= "(\d{4}-\d\d-\d\d \d\d:\d\d)" ORDER BY updated ASC', asked.query.get("jql", ""))
        if jql is None:
            return as_json(400, {"errorMessages": ["Unbounded JQL queries are not allowed here."]})
        since = datetime.fromisoformat(jql[1]).replace(tzinfo=self.zone)
        found = self.sorted(
            lambda one: moment(one["fields"]["updated"]), lambda one: moment(one["fields"]["updated"]) >= since
        )
        at = int(asked.query.get("nextPageToken", 0))
        shown = found[at : at + min(int(asked.query["maxResults"]), 25)]
        more = at + len(shown) < len(found)
        token = {"nextPageToken": str(at + len(shown))} if more else {}
        return as_json(200, {"issues": shown, "isLast": not more, **token})


class Slack(Vendor):
    """Two channels with messages, and one that the app is not a member of."""

    channels = ("C1", "C2", "C3")

    def make(self, number: int) -> tuple[Any, Record]:
        sent = f"{int(stamp(number).timestamp())}.{number:06d}"
        return (self.channels[number % 2], sent), {"type": "message", "ts": sent, "text": f"no. {number}"}

    def page(self, asked: Asked) -> Reply:
        if asked.path == "/api/conversations.list":
            return as_json(200, {"ok": True, "channels": [{"id": name} for name in self.channels],
                                 "response_metadata": {"next_cursor": ""}})  # fmt: skip
        channel, oldest = asked.query["channel"], float(asked.query.get("oldest", 0))
        if channel == "C3":
            return as_json(200, {"ok": False, "error": "not_in_channel"})
        own = sorted((one for (name, _), one in self.records.items() if name == channel), key=lambda one: one["ts"])
        found = [one for one in reversed(own) if float(one["ts"]) >= oldest]
        at = int(asked.query.get("cursor") or 0)
        shown = found[at : at + 10]
        more = at + len(shown) < len(found)
        cursor = str(at + len(shown)) if more else ""
        return as_json(200, {"ok": True, "messages": shown, "has_more": more, "pin_count": 0,
                             "response_metadata": {"next_cursor": cursor}})  # fmt: skip


class GitHub(Vendor):
    """Issues of a repository, by GraphQL."""

    def make(self, number: int) -> tuple[Any, Record]:
        changed = stamp(number).isoformat().replace("+00:00", "Z")
        return f"I_{number}", {"id": f"I_{number}", "number": number, "updatedAt": changed}

    def page(self, asked: Asked) -> Reply:
        variables = json.loads(asked.body)["variables"]
        if variables["name"] != "cli":
            missing = {"type": "NOT_FOUND", "path": ["repository"], "message": "Could not resolve to a Repository"}
            return as_json(200, {"data": {"repository": None}, "errors": [missing]})
        since = moment(variables.get("since") or "2000-01-01T00:00:00Z")
        found = self.sorted(lambda one: moment(one["updatedAt"]), lambda one: moment(one["updatedAt"]) >= since)
        at = int(variables["after"] or 0)
        shown = found[at : at + 20]
        info = {"endCursor": str(at + len(shown)) if shown else None, "hasNextPage": at + len(shown) < len(found)}
        issues = {"nodes": shown, "pageInfo": info, "totalCount": len(found)}
        return as_json(200, {"data": {"repository": {"issues": issues}}})


@dataclass
class Graph(Vendor):
    """Users, and what changed since a token: the number of changes that it has seen."""

    log: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def make(self, number: int) -> tuple[Any, Record]:
        key = f"00000000-0000-4000-8000-{number:012d}"
        record = {"id": key, "displayName": f"no. {number}"}
        self.log.append((key, record))
        return key, record

    def remove(self, key: str) -> None:
        """Delete a user."""
        del self.records[key]
        self.log.append((key, {"id": key, "@removed": {"reason": "changed"}}))

    def page(self, asked: Asked) -> Reply:
        given = asked.query.get("$skiptoken", f"0-{asked.query.get('$deltatoken', 0)}-{len(self.log)}")
        at, since, until = (int(part) for part in given.split("-"))
        changed = dict(self.log[since:until])
        found = list(changed.values())[at : at + 15]
        link = f"{self.url}/v1.0/users/delta?"
        following = {"@odata.nextLink": f"{link}$skiptoken={at + len(found)}-{since}-{until}"}
        if at + len(found) >= len(changed):
            following = {"@odata.deltaLink": f"{link}$deltatoken={until}"}
        return as_json(200, {"@odata.context": f"{self.url}/v1.0/$metadata#users", **following, "value": found})


class Elasticsearch(Vendor):
    """Hits behind the sort values of the last one; a search that timed out says so, with status 200."""

    def make(self, number: int) -> tuple[Any, Record]:
        changed = stamp(number - number % 3)  # several at once, so that ids decide
        source = {"id": f"e{number:04d}", "updated_at": changed.isoformat().replace("+00:00", "Z")}
        return source["id"], {"_index": "events", "_id": source["id"], "_source": source,
                              "sort": [int(changed.timestamp() * 1000), source["id"]]}  # fmt: skip

    def page(self, asked: Asked) -> Reply:
        body = json.loads(asked.body)
        since = moment(body["query"]["range"]["updated_at"]["gte"])
        behind = body.get("search_after") or [0, ""]
        found = self.sorted(
            lambda one: one["sort"],
            lambda one: moment(one["_source"]["updated_at"]) >= since and one["sort"] > behind,
        )
        shards = {"total": 5, "successful": 5, "skipped": 0, "failed": 0}
        hits = {"total": {"value": min(len(found), 30), "relation": "gte"}, "hits": found[: min(body["size"], 20)]}
        return as_json(200, {"took": 1, "timed_out": False, "_shards": shards, "hits": hits})


class Stripe(Vendor):
    """Charges, newest first."""

    def make(self, number: int) -> tuple[Any, Record]:
        return f"ch_{number:04d}", {
            "id": f"ch_{number:04d}",
            "object": "charge",
            "created": int(stamp(number).timestamp()),
        }

    def page(self, asked: Asked) -> Reply:
        least = int(asked.query.get("created[gte]", 0))
        order = self.sorted(lambda one: (-one["created"], one["id"]), lambda one: one["created"] >= least)
        after = asked.query.get("starting_after")
        at = next((place for place, one in enumerate(order, 1) if one["id"] == after), None if after else 0)
        if at is None:
            return as_json(404, {"error": {"code": "resource_missing", "param": "starting_after"}})
        found = order[at : at + min(int(asked.query.get("limit", 10)), 15)]
        return as_json(200, {"object": "list", "url": "/v1/charges", "data": found,
                             "has_more": at + len(found) < len(order)})  # fmt: skip
