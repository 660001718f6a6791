"""Sources for the renderer's tests: small, with the shapes that the real ones happen not to have."""

from pathlib import Path

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.source import Source
from flows.kinds.api import Api, Endpoint, Since
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.postgres import Database, Table
from flows.render.ingest_deployments import BEGIN, END, FOLLOWS_BEGIN, FOLLOWS_END


@pytest.fixture
def sources() -> tuple[Source, ...]:
    stock = Database(
        "stock",
        connection="erp",
        schedule="0 6 * * 1-5",
        description="It's the stock: all of it.",
        tables=[
            Table(
                "levels",
                key=("site_id", "product_id"),
                cursor=Timestamp("changed_at", lag="1 h"),
                load=Merge(),
                deletes=True,
                rules=(Rule("level_not_negative", "level >= 0 or kind = 'it''s | back'"),),
                max_quarantined=0.05,
            ),
            Table("moves", key="move_id", cursor=Sequence("move_id"), load=Append(), description="One row per move."),
            Table("sites", load=Replace()),
            Table("counts", load=Overwrite(by="counted_at", every="month", last=3)),
        ],
    )
    weather = Api(
        "weather",
        connection="weather",
        endpoints=[
            Endpoint("stations", path="/stations", key_type="uuid", load=Replace()),
            Endpoint("readings", path="/readings", cursor=Since("since", field="read_at")),
        ],
    )
    crm = DltSource(
        "crm",
        build="sources.crm:crm",
        resources=[
            Resource("contacts", key=("account", "id"), key_type=("text", "bigint"), cursor="changed", load=Merge()),
            Resource("orders", key="order_id", columns=True, load=Merge(), deleted="gone"),
            Resource("stages"),
        ],
    )
    return (stock, weather, crm)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder in which nothing has been rendered yet."""
    (tmp_path / "prefect.yaml").write_text(
        f"name: x\n\ndeployments:\n{BEGIN}\n{END}\n\n  - name: mine\n{FOLLOWS_BEGIN}\n{FOLLOWS_END}\n    tags: [mine]\n"
    )
    return tmp_path
