"""The declarations that ship for APIs with lists of their own kind, against servers that follow the documentation.

Each comes whole, its changes follow, and killed twice at a request that chance chooses it ends complete.
"""

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from flows.publish.session import LoadResult
from tests.conftest import TestDatabase
from tests.kinds.api.servers import declared, vendors
from tests.kinds.api.servers.imitation import as_json
from tests.kinds.api.servers.reading import deleted_keys, load, load_and_kill, raw_records
from tests.kinds.conformance.forking import ROOT


@dataclass(frozen=True)
class Case:
    """A vendor's API: its declaration, the table that is compared, and the key by which."""

    server: Callable[[], vendors.Vendor]
    name: str
    table: str
    key: str = "id"
    before: tuple[str, ...] = ()
    user: str = ""

    @property
    def raw(self) -> str:
        return f"raw_{getattr(declared, self.name).name}.{self.table}"


CASES = [
    Case(vendors.Zendesk, "ZENDESK", "tickets", user="a@example.com/token"),
    Case(vendors.HubSpot, "HUBSPOT", "contacts"),
    Case(vendors.Jira, "JIRA", "issues", user="a@example.com"),
    Case(vendors.Slack, "SLACK", "messages", key="(channel, ts)::text", before=("channels",)),
    Case(vendors.GitHub, "GITHUB", "issues"),
    Case(vendors.Graph, "GRAPH", "users", key="id::text"),
    Case(vendors.Elasticsearch, "ELASTICSEARCH", "events"),
    Case(vendors.Stripe, "STRIPE", "charges"),
]

# Windows that are halved, and lists of parents: these with every change.
SOME = ("HUBSPOT", "SLACK")


async def read(warehouse: TestDatabase, server: vendors.Vendor, case: Case) -> LoadResult:
    api = getattr(declared, case.name)
    for table in case.before:
        await load(warehouse, api, server.url, table, "key", case.user or None)
    return await load(warehouse, api, server.url, case.table, "key", case.user or None)


def truth(server: vendors.Vendor, case: Case) -> dict[object, object]:
    if case.name == "SLACK":
        return {f"({','.join(key)})": record for key, record in server.records.items()}
    return {int(key) if case.name == "JIRA" else key: record for key, record in server.records.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.lower())
async def test_a_list_comes_whole_and_changes_follow(warehouse: TestDatabase, case: Case) -> None:
    with case.server() as server:
        server.put(*range(150))
        first = await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw, case.key) == truth(server, case)
        server.put(*range(150, 190))
        second = await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw, case.key) == truth(server, case)
    assert (first.warning, second.warning) == (None, None)
    assert second.counts.rows_inserted == 40


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name.lower(), marks=[] if case.name in SOME else pytest.mark.long) for case in CASES],
)
async def test_a_load_that_is_killed_at_random_ends_complete(warehouse: TestDatabase, case: Case) -> None:
    """Two processes: seconds."""
    chance = random.Random(case.name)
    with case.server() as server:
        server.put(*range(150))
        for table in case.before:
            await load(warehouse, getattr(declared, case.name), server.url, table, "key", case.user or None)
        for _ in range(2):
            server.begin()
            load_and_kill(
                warehouse, server, chance.randint(2, 4), [case.name, case.table], server.url, "key", case.user
            )
        server.begin()
        last = await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw, case.key) == truth(server, case)
    assert last.warning is None


async def test_zendesk_s_deleted_tickets_become_tombstones(warehouse: TestDatabase) -> None:
    case = CASES[0]
    with vendors.Zendesk() as server:
        server.put(*range(60))
        await read(warehouse, server, case)
        server.put(7, status="deleted", generated_timestamp=int(vendors.stamp(70).timestamp()))
        await read(warehouse, server, case)
        assert deleted_keys(warehouse, case.raw) == {7}


async def test_graph_s_removed_users_become_tombstones_and_an_old_link_reads_all_again(
    warehouse: TestDatabase,
) -> None:
    case = CASES[5]
    with vendors.Graph() as server:
        server.put(*range(40))
        await read(warehouse, server, case)
        server.remove(next(iter(server.records)))
        server.begin()
        await read(warehouse, server, case)
        assert [asked.query.keys() for asked in server.asked] == [{"$deltatoken"}]
        assert len(deleted_keys(warehouse, case.raw)) == 1
        server.begin()
        server.instead[1] = lambda: as_json(410, {"error": {"code": "resyncRequired"}})
        await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw, "id::text") == server.records


async def test_slack_s_quota_in_a_200_is_waited_for_and_a_lost_cursor_begins_again(warehouse: TestDatabase) -> None:
    case = CASES[3]
    with vendors.Slack() as server:
        server.put(*range(60))
        await load(warehouse, declared.SLACK, server.url, "channels", "key")
        server.begin()
        server.instead |= {2: lambda: as_json(200, {"ok": False, "error": "ratelimited"}, "Retry-After: 0.01")}
        await load(warehouse, declared.SLACK, server.url, "messages", "key")
        assert raw_records(warehouse, case.raw, case.key) == truth(server, case)


async def test_elasticsearch_s_hits_of_a_part_of_the_shards_are_no_page(warehouse: TestDatabase) -> None:
    case = CASES[6]
    with vendors.Elasticsearch() as server:
        server.put(*range(50))
        hits: dict[str, Any] = {"hits": {"hits": []}}
        server.instead |= {
            2: lambda: as_json(200, {"timed_out": True, "_shards": {"failed": 0}, **hits}),
            3: lambda: as_json(200, {"timed_out": False, "_shards": {"failed": 2}, **hits}),
        }
        result = await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw) == truth(server, case)
    assert result.warning is None


async def test_github_s_quota_in_a_200_is_waited_for(warehouse: TestDatabase) -> None:
    case = CASES[4]
    with vendors.GitHub() as server:
        server.put(*range(50))
        errors = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
        server.instead[2] = lambda: as_json(200, errors, "X-RateLimit-Reset: 0.01")
        await read(warehouse, server, case)
        assert raw_records(warehouse, case.raw) == truth(server, case)


@pytest.mark.parametrize("name", [getattr(declared, case.name).name for case in CASES])
def test_no_declaration_has_more_than_twenty_lines(name: str) -> None:
    path = ROOT / "flows/sources/catalog" / f"{name}.py"
    statement = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign)][-1]
    assert (statement.end_lineno or 0) - statement.lineno < 20
