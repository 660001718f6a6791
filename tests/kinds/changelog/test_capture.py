"""`medallion capture`: what is missing at the source, run as far as the role may; positions; and the end of it."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from flows.cli.capture_tables import status_parts, steps_table
from flows.declare import Append, Hashed, Log, Merge, Replace, Sequence
from flows.kinds.answers import TablePosition
from flows.kinds.changelog import Database, Table
from flows.values.errors import DeclarationError, MedallionError
from flows.values.settings import settings
from flows.verbs.capture import drop, missing, set_up, status
from tests.kinds.changelog.log_ends import LogEnds, log_cluster
from tests.kinds.changelog.test_changes import start


@pytest.fixture
def declared(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogEnds]:
    """A source that commands find, and that its owner may set up."""
    ends.create("items", "id bigint primary key, name text")
    monkeypatch.setattr("flows.verbs.find.SOURCES", (ends.declared,))
    monkeypatch.setattr("flows.verbs.capture.SOURCES", (ends.declared,))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", ends.shop.url("extractor"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("loader"))
    settings.cache_clear()
    yield ends
    settings.cache_clear()


def shown(*parts: object) -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


async def test_what_the_role_may_not_do_is_shown_with_who_may(declared: LogEnds) -> None:
    planned = await missing("shop")
    assert [step.sql.split()[0] for step in planned] == ["create", "select"]
    assert not any(step.done for step in planned)

    steps = await set_up("shop")

    assert steps[0].error == "refused (42501)"
    text = shown(steps_table(steps))
    assert "create publication" in text
    assert "the owner of the tables" in steps[0].who
    assert "run it as" in text
    assert not (await declared.look()).has_slot, "without its publication a slot brings nothing"


async def test_the_owner_sets_up_and_again_changes_nothing(declared: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    assert all(step.done for step in await set_up("shop"))
    assert await set_up("shop") == []
    await declared.load()
    declared.source("insert into items values (1, 'one'), (2, 'two')")
    declared.source("delete from items where id = 1")
    await declared.load()

    (found,) = await status()

    (items,) = found.tables
    assert isinstance(items, TablePosition)
    assert (items.counts.inserts, items.counts.deletes, items.counts.failed) == (2, 1, 0)
    assert items.behind is not None
    assert items.counts.committed_at is not None
    text = shown(*status_parts(found))
    assert "ready" in text
    assert "shop.items" in text

    assert all(step.done for step in await drop("shop"))
    assert not (await declared.look()).has_slot
    assert await drop("shop") == []
    with pytest.raises(MedallionError, match="does not exist"):
        await declared.load()
    assert declared.live() == [(2, "two")]
    (found,) = await status(["shop"])
    assert "missing" in shown(*status_parts(found))


async def test_a_role_without_replication_is_told_what_it_needs(declared: LogEnds) -> None:
    admin = log_cluster().cluster.connection
    admin.execute("alter role medallion_extractor noreplication")
    try:
        assert any("replication" in step.sql and "administrator" in step.who for step in await missing("shop"))
    finally:
        admin.execute("alter role medallion_extractor replication")


async def test_a_table_that_is_declared_later_is_added(ends: LogEnds) -> None:
    await start(ends)
    before = (await ends.look()).names
    ends.create("other", "id bigint primary key, name text")
    with pytest.raises(MedallionError, match="does not contain the table") as refused:
        await ends.load("other")
    assert "medallion capture setup shop" in refused.value.fix

    await ends.set_up()

    assert (await ends.load("other")).strategy == "initial"
    assert (await ends.load("items")).strategy == "merge"
    assert (await ends.look()).names == before


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (Table("items", load=Replace()), "has no key"),
        (Table("items", key="id", cursor=Sequence("id"), load=Append()), "is not loaded by Merge"),
        (Table("items", key="id", load=Merge(), where="id > 1"), "has a condition"),
        (Table("items", key="id", load=Merge(), masked={"name": Hashed()}), "has masked columns"),
        (Table("items", key="id", load=Merge(), sees_a_part=True), "sees_a_part"),
    ],
)
def test_what_the_log_cannot_bring_is_refused_when_it_is_declared(table: Table, match: str) -> None:
    with pytest.raises(DeclarationError, match=match) as refused:
        Database("shop", connection="shop", capture=Log(), tables=[table])
    assert refused.value.fix


@pytest.mark.parametrize("wrong", [{"max_retained": "much"}, {"max_retained": 0}, {"slot": "My Slot"}])
def test_a_log_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DeclarationError):
        Log(**wrong)  # type: ignore[arg-type]


def test_capture_is_for_postgresql() -> None:
    with pytest.raises(DeclarationError, match="reads PostgreSQL's log"):
        Database("erp", connection="erp", engine="mysql", capture=Log(), tables=[Table("t", key="id", load=Merge())])
