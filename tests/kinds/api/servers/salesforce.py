"""An imitation of Salesforce's Bulk API 2.0, query jobs.

After https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/queries.htm.

    POST /services/data/v61.0/jobs/query    {"operation": "query", "query": "SELECT …"}
    → {"id": "750…", "operation": "query", "state": "UploadComplete", …}
    GET /services/data/v61.0/jobs/query/750…
    → {"id": "750…", "state": "JobComplete", "numberRecordsProcessed": 300, …}
    GET /services/data/v61.0/jobs/query/750…/results?maxRecords=100&locator=MTAw
    → CSV, with Sforce-Locator: MjAw (or the text "null" on the last page) and Sforce-NumberOfRecords: 100
"""

import csv
import io
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json
from tests.kinds.api.servers.oauth import TokenEndpoint

ROOT = "/services/data/v61.0/jobs/query"
_COLUMNS = ("Id", "Name", "SystemModstamp")


@dataclass
class Salesforce(Imitation):
    """An org's accounts. A job takes `polls` polls, and `doomed` jobs fail; `expire` makes all forget their results."""

    tokens: TokenEndpoint = field(default_factory=TokenEndpoint)
    accounts: dict[str, dict[str, str]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: int = 2
    doomed: int = 0

    def clear(self) -> None:
        """An org without accounts and jobs."""
        self.begin()
        self.accounts, self.polls, self.doomed = {}, 2, 0
        self.jobs.clear()

    def put(self, *numbers: int, version: int = 1) -> None:
        """Create or change accounts."""
        for number in numbers:
            at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=version, seconds=number)
            stamp = f"{at:%Y-%m-%dT%H:%M:%S.000Z}"
            name = f'Account "{number}", v{version}\nLtd'
            self.accounts[f"001{number:05}"] = {"Id": f"001{number:05}", "Name": name, "SystemModstamp": stamp}

    def answer(self, asked: Asked) -> Reply:
        """Create, poll, results."""
        if not self.tokens.good(asked):
            return as_json(401, [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}])
        if (asked.method, asked.path) == ("POST", ROOT):
            return self._create(json.loads(asked.body))
        found = re.fullmatch(rf"{ROOT}/(\w+)(/results)?", asked.path)
        job = self.jobs.get(found[1]) if found and asked.method == "GET" else None
        if job is None or found is None:
            return as_json(404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}])
        return self._results(job, asked) if found[2] else self._poll(job)

    def _create(self, body: dict[str, Any]) -> Reply:
        since = re.fullmatch(
            r"SELECT Id, Name, SystemModstamp FROM Account WHERE SystemModstamp >= (\S+)", body.get("query", "")
        )
        if since is None or body.get("operation") not in ("query", "queryAll"):
            return as_json(400, [{"errorCode": "MALFORMED_QUERY", "message": "unexpected token"}])
        name = f"750{len(self.jobs):05}"
        rows = [row for row in self.accounts.values() if _at(row["SystemModstamp"]) >= _at(since[1])]
        self.jobs[name] = {
            "id": name, "operation": "query", "object": "Account", "state": "UploadComplete", "rows": rows,
            "left": self.polls, "fails": self.doomed > 0,
        }  # fmt: skip
        self.doomed -= 1
        return as_json(200, _told(self.jobs[name]))

    def _poll(self, job: dict[str, Any]) -> Reply:
        job["left"] -= 1
        job["state"] = "InProgress"
        if job["left"] <= 0:
            job["state"] = "Failed" if job["fails"] else "JobComplete"
            job["numberRecordsProcessed"] = len(job["rows"])
        return as_json(200, _told(job))

    def _results(self, job: dict[str, Any], asked: Asked) -> Reply:
        if job["state"] != "JobComplete":
            return as_json(404, [{"errorCode": "NOT_FOUND", "message": "The job has no results yet"}])
        size = int(asked.query.get("maxRecords", 1000))
        begin = int(asked.query.get("locator", "0"))
        shown, following = job["rows"][begin : begin + size], begin + size
        text = io.StringIO()
        table = csv.DictWriter(text, _COLUMNS, quoting=csv.QUOTE_ALL, lineterminator="\n")
        table.writeheader()
        table.writerows(shown)
        locator = str(following) if following < len(job["rows"]) else "null"
        heads = (f"Sforce-Locator: {locator}", f"Sforce-NumberOfRecords: {len(shown)}")
        return Reply(200, text.getvalue().encode(), heads, content_type="text/csv")


def _told(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in ("rows", "left", "fails")}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
