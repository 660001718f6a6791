"""`medallion capture` of a source with triggers: shown first, created on request, watched, dropped."""

import asyncio
import io
from collections.abc import Iterator
from datetime import timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.cli.capture import app
from flows.cli.capture_tables import status_parts
from flows.declare import Append, Merge, Sequence, Triggers
from flows.kinds.answers import TriggeredTable, TriggerStatus
from flows.kinds.captured import Database, Table
from flows.operations.checks.captured import captured_changes_wait, conditions
from flows.values.errors import DeclarationError
from flows.values.settings import settings
from flows.verbs.capture import asks, drop, missing, set_up, status
from tests.docs.markdown import blocks
from tests.kinds.captured.captured_ends import CapturedEnds

TRIGGERS = "select count(*) from pg_trigger where not tgisinternal and tgrelid = 'items'::regclass"


@pytest.fixture
def declared(ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch) -> Iterator[CapturedEnds]:
    """A source that commands find, without triggers so far."""
    ends.source("create table items (id bigint primary key, name text)")
    ends.source("grant select on items to public")
    ends.tables = [Table("items", key="id", load=Merge())]
    monkeypatch.setattr("flows.verbs.find.SOURCES", (ends.declared,))
    monkeypatch.setattr("flows.verbs.capture.SOURCES", (ends.declared,))
    monkeypatch.setattr("flows.cli.capture.prepare", lambda **_: None)
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", ends.shop.url("extractor"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("loader"))
    settings.cache_clear()
    yield ends
    settings.cache_clear()


async def test_what_the_role_may_not_do_is_shown_with_who_may(declared: CapturedEnds) -> None:
    assert asks("shop")
    planned = await missing("shop")
    assert planned[0].sql == "create schema medallion_captured"
    assert any("after truncate" in step.sql for step in planned)
    assert not any(step.done for step in planned)

    steps = await set_up("shop")

    assert steps[0].error == "refused (42501)"
    assert declared.admin("select tgname from pg_trigger where tgname like 'shop@_@_%' escape '@'") == []


async def test_the_owner_sets_up_and_again_changes_nothing(
    declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    assert all(step.done for step in await set_up("shop"))
    assert await set_up("shop") == []
    declared.source("insert into items values (1, 'a'), (2, 'b')")

    (found,) = await status()

    assert isinstance(found, TriggerStatus)
    assert found.is_well
    assert (found.tables[0].rows, found.tables[0].oldest is not None) == (2, True)
    console = Console(width=200, record=True, file=io.StringIO())
    for part in status_parts(found):
        console.print(part)
    assert "ready" in console.export_text()

    declared.admin("revoke delete on medallion_captured.shop__items from medallion_extractor")
    assert [step.sql.split()[0] for step in await set_up("shop")][:1] == ["grant"]
    assert all(step.done for step in await drop("shop"))
    assert declared.admin("select tgname from pg_trigger where tgname like 'shop@_@_%' escape '@'") == []


def test_statements_are_shown_and_run_on_request(declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    shown = CliRunner().invoke(app, ["setup", "shop"], input="n\n")
    assert (shown.exit_code, declared.admin(TRIGGERS)) == (1, [(0,)])
    done = CliRunner().invoke(app, ["setup", "shop", "--yes"])
    assert (done.exit_code, declared.admin(TRIGGERS)) == (0, [(4,)])
    kept = CliRunner().invoke(app, ["drop", "shop"], input="n\n")
    assert (kept.exit_code, declared.admin(TRIGGERS)) == (1, [(4,)])
    gone = CliRunner().invoke(app, ["drop", "shop", "--yes"])
    assert (gone.exit_code, declared.admin(TRIGGERS)) == (0, [(0,)])


async def test_the_commands_of_the_documentation_do_what_they_say(
    declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of docs/capture.md, in their order."""
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    declared.source("insert into items values (1, 'a')")
    (block,) = [block for block in blocks("sh") if block.document == "docs/capture.md"]
    lines = [line.partition("#")[0].split() for line in block.code.splitlines()]
    commands = [[word.replace("erp", "shop") for word in line] for line in lines]
    answers = {}
    for command in commands:
        if command[1] == "run":
            assert (await declared.load()).counts.rows_read == 1
            continue
        assert command[:2] == ["medallion", "capture"]
        done = await asyncio.to_thread(CliRunner().invoke, app, command[2:], input="y\n")
        assert done.exit_code == 0, (command, done.output)
        answers[tuple(command[2:])] = done.output, declared.admin(TRIGGERS)
    there = {command: triggers for command, (_, [(triggers,)]) in answers.items()}
    assert there == {
        ("setup", "shop", "--plan"): 0,
        ("setup", "shop"): 4,
        ("status", "shop"): 4,
        ("drop", "shop"): 0,
    }
    assert "Run these statements at the source?" in answers["setup", "shop"][0]


async def test_a_changed_limit_is_set_up_again_without_a_full_read(
    declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    await set_up("shop")
    await declared.load()
    declared.triggers = Triggers(max_waiting="2 GB")
    monkeypatch.setattr("flows.verbs.find.SOURCES", (declared.declared,))
    steps = await set_up("shop")
    assert any(step.sql.startswith("create or replace function") for step in steps)
    assert not any("create trigger" in step.sql for step in steps)
    assert (await declared.load()).strategy == "merge"


async def test_a_table_that_is_gone_hides_no_other_from_status_and_watch(
    declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", declared.shop.url("admin"))
    declared.source("create table others (id bigint primary key)")
    declared.tables.append(Table("others", key="id", load=Merge()))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (declared.declared,))
    await set_up("shop")
    declared.source("insert into items values (1, 'a')")
    declared.source("drop table others")
    (found,) = await status(["shop"])
    assert isinstance(found, TriggerStatus)
    assert [(table.table, table.rows, table.problem) for table in found.tables] == [
        ("items", 1, None),
        ("others", 0, "the table does not exist"),
    ]
    told = await captured_changes_wait(None, timedelta(), (declared.declared,))  # type: ignore[arg-type]
    assert {one.subject for one in told} == {"captured shop.items", "captured shop.others"}


def test_what_waits_too_long_is_too_large_or_not_recorded_is_an_alert() -> None:
    tables = [
        TriggeredTable("fine", 10, 1_000, 60.0),
        TriggeredTable("old", 10, 1_000, 90_000.0),
        TriggeredTable("large", 10, 600_000_000, 60.0),
        TriggeredTable("broken", 0, 0, None, "a trigger was dropped"),
    ]
    found = conditions(TriggerStatus("shop", 1_000_000_000, tables), timedelta(days=1))
    assert [(one.subject, one.severity) for one in found] == [
        ("captured shop.old", "warning"),
        ("captured shop.large", "error"),
        ("captured shop.broken", "error"),
    ]


async def test_a_source_that_does_not_answer_is_left_to_its_loads(
    declared: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", "postgresql://nobody:x@127.0.0.1:1/none")
    assert await captured_changes_wait(None, timedelta(), (declared.declared,)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (Table("items", load=Merge(), key="id", query="select 1 as id"), "is a query"),
        (Table("items", load=Append(), key="id", cursor=Sequence("id")), "is not loaded by"),
    ],
)
def test_what_triggers_cannot_bring_is_refused_when_it_is_declared(table: Table, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Database("shop", connection="shop", tables=[table], capture=Triggers())


def test_engines_without_our_triggers_are_refused() -> None:
    table = Table("items", load=Merge(), key="id")
    with pytest.raises(DeclarationError, match="PostgreSQL, MySQL and MariaDB"):
        Database("shop", connection="shop", engine="sqlite", tables=[table], capture=Triggers())
    with pytest.raises(DeclarationError, match="is no limit of bytes"):
        Triggers(max_waiting=0)
