"""The demo beside a source of one's own."""

import pytest

from demo import walkthrough
from flows.access import addresses
from flows.declare import Replace
from flows.kinds.api import Api, Endpoint
from flows.kinds.postgres import Database, Table
from flows.kinds.registry import kind_of
from flows.sources import SOURCES
from flows.values.errors import ConfigurationError
from tests.flows.conftest import Ends
from tests.flows.front_door import medallion
from tests.flows.scripted_api import ScriptedApi

pytestmark = pytest.mark.usefixtures("ends")


def test_a_source_of_ones_own_is_not_sent_to_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHOP", "MARKETING", "CURRENCY"):
        monkeypatch.delenv(f"MEDALLION_SOURCE_{name}_URL", raising=False)
    own = (
        Database("erp", connection="erp", tables=[Table("orders", load=Replace())]),
        Api("crm", connection="crm", endpoints=[Endpoint("people", path="/people")]),
    )
    told = {}
    for source in (*SOURCES, *own):
        with pytest.raises(ConfigurationError) as unknown:
            kind_of(source).address(source)
        told[source.name] = unknown.value.fix
        assert f"MEDALLION_SOURCE_{source.name.upper()}_URL" in unknown.value.fix
    assert {name for name, fix in told.items() if "medallion demo" in fix} == set(addresses.DEMO_SOURCES)


def test_the_demo_loads_its_own_sources_whatever_else_is_declared(ends: Ends, marketing_api: ScriptedApi) -> None:
    """`make demo` failed once somebody had declared a source that is not there."""
    theirs = medallion("run", "--ingest-only", module="tests.flows.with_guests")
    assert "guests" in theirs.panel, "the control: a plain run asks the source that is not there"
    assert theirs.code == 3

    done = medallion(*walkthrough.RUN, "--ingest-only", module="tests.flows.with_guests")

    assert done.code == 0, done.text
    assert marketing_api.records
