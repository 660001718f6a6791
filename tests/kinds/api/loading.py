"""An API of lists in several styles, and loads of it."""

import asyncio
from typing import Any
from unittest.mock import patch

from flows.declare import Replace
from flows.kinds.api import Api, Bearer, ChangeToken, Cursor, Endpoint, Offset, PageNumber, Parent, Since, SinglePage
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.kind import Apis
from flows.kinds.registry import KINDS
from flows.publish.session import LoadResult
from flows.values.connection import ApiConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.loading import at, rows
from tests.sessions import take_over_sessions

KEY = "canary-key-51d0"
_AFTER = Cursor("after", at="paging.next", more="paging.more")

LISTS = Api(
    "lists",
    connection="lists",
    auth=Bearer(),
    endpoints=[
        Endpoint("items", path="/v1/items", key_type="bigint", pagination=_AFTER,
                 cursor=Since("since", field="at", lag="1 min")),
        Endpoint("ordered", path="/v1/items", key_type="bigint", pagination=_AFTER,
                 cursor=Since("since", field="at", ordered=True)),
        Endpoint("stamps", path="/v1/items", key_type="bigint", pagination=SinglePage(), deleted="deleted",
                 cursor=Since("_since", field="last_modified", form="epoch_ms"), max_quarantined=0.5),
        Endpoint("tokens", path="/v1/items", key_type="bigint", pagination=_AFTER,
                 cursor=ChangeToken("sync", at="sync")),
        Endpoint("whole", path="/v1/items", key_type="bigint", pagination=SinglePage(), etag=True, load=Replace()),
        Endpoint("refilled", path="/v1/items", key_type="bigint", pagination=_AFTER, load=Replace()),
        Endpoint("numbered", path="/v1/items", key_type="bigint", pagination=PageNumber(), total="total"),
        Endpoint("shifting", path="/v1/items", key_type="bigint", pagination=Offset(), total="total"),
        Endpoint("orders", path="/v1/orders", key_type="bigint", pagination=SinglePage()),
        Endpoint("refunds", path="/v1/orders/{id}/refunds", key_type="bigint", key=("order_id", "id"),
                 pagination=_AFTER, parent=Parent("orders", column="order_id", type="bigint"), concurrent=4),
    ],
)  # fmt: skip


async def load(
    warehouse: TestDatabase,
    url: str,
    endpoint: str,
    api: Api = LISTS,
    *,
    limits: HttpLimits | None = None,
    **options: Any,
) -> LoadResult:
    """One load in this process."""
    connection = ApiConnection(api.connection, url, KEY)
    with patch.dict(KINDS, {"api": Apis(limits)}):
        take_over_sessions()
        return await load_table(at(warehouse, "loader"), connection, api, api.table(endpoint), **options)


async def load_in_a_process(warehouse: TestDatabase, url: str, endpoint: str, **variables: str) -> int:
    """The same in a process that may die; returns how it ended."""
    variables = {
        "MEDALLION_WAREHOUSE_URL": warehouse.url("loader"),
        "MEDALLION_SOURCE_LISTS_URL": url,
        "MEDALLION_SOURCE_LISTS_KEY": KEY,
        **variables,
    }
    # In a thread: the server that it reads from is in this one.
    done = await asyncio.to_thread(forking.run, "tests.kinds.api.one_load", [endpoint], variables)
    return done.returncode


def keys(warehouse: TestDatabase, table: str, condition: str = "_deleted_at is null") -> list[int]:
    """The keys raw holds, in order."""
    return [row["id"] for row in rows(warehouse, f"select id from raw_lists.{table} where {condition} order by id")]


def place(warehouse: TestDatabase, table: str) -> dict[str, Any] | None:
    """Where the list of an endpoint is to be gone on with."""
    found = rows(warehouse, f"select place from ops.list_reads where table_name = '{table}'")
    return found[0]["place"] if found else None
