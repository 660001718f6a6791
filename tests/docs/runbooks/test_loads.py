"""Runbooks of loads and runs: each test causes the failure, follows the page, and the alert is resolved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.declare import Append, Ask, Budget, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.files import Csv, Files, FileTable, Settled
from flows.kinds.postgres import Table
from flows.values.errors import ConfigurationError, DataRefused
from tests.docs.runbooks.night import Night, exercise

STORES = Table("stores", key="store_id", load=Replace())


def filled(night: Night, name: str, rows: int = 10, **options: object) -> Table:
    """A table of some rows at the source, declared and loaded once."""
    night.at_source(f"create table {name} (id int primary key, v int, at timestamptz default '2020-01-01')")
    night.at_source(f"insert into {name} select n, n from generate_series(1, {rows}) as n")
    table = Table(name, **{"key": "id", "load": Merge(), **options})  # type: ignore[arg-type]
    night.declare(table)
    assert night.load(name) is None
    return table


@exercise("load failed")
def test_a_load_that_failed(night: Night) -> None:
    filled(night, "failing")
    night.at_source("alter table failing rename to elsewhere")
    assert night.load("failing")
    night.follow(
        "load failed", "shop.failing", hands={2: lambda: night.at_source("alter table elsewhere rename to failing")}
    )


def test_a_page_that_is_followed_without_its_fix_does_not_pass(night: Night) -> None:
    """The control."""
    filled(night, "unfixed")
    night.at_source("alter table unfixed rename to unfixed_elsewhere")
    assert night.load("unfixed")
    with pytest.raises(AssertionError, match="exit code"):
        night.follow("load failed", "shop.unfixed")
    with pytest.raises(AssertionError, match="is still open"):
        night.follow("certificate ends", "shop.unfixed", alert="load failed")
    night.at_source("alter table unfixed_elsewhere rename to unfixed")
    assert night.load("unfixed") is None


@exercise("load refused")
def test_a_load_that_was_refused(night: Night) -> None:
    filled(night, "refused", rules=(Rule("positive", "v > 0"),), max_quarantined=0.0, quarantine_floor=0)
    night.at_source("insert into refused values (11, -1)")
    assert night.load("refused")
    night.follow(
        "load refused", "shop.refused", hands={3: lambda: night.at_source("update refused set v = 11 where id = 11")}
    )


@exercise("result differs")
def test_a_result_that_differs(night: Night) -> None:
    filled(night, "differing", cursor=Timestamp("at"))
    night.at_source("insert into differing values (11, 1, '2001-01-01')")
    assert night.load("differing") is None
    night.follow("result differs", "shop.differing")


@exercise("part skipped")
def test_a_part_of_the_source_that_was_skipped(night: Night, tmp_path: Path) -> None:
    """A file that its own last line contradicts."""
    lines = FileTable("lines", match="*.csv", load=Append(), format=Csv(trailer=r"^T,(?P<rows>\d+)"))
    night.declare_source(Files("drop", connection="drop", ready=Settled("0 s"), tables=[lines]), str(tmp_path))
    (tmp_path / "whole.csv").write_text("x\n1\nT,1\n")
    (tmp_path / "cut.csv").write_text("x\n2\nT,2\n")
    assert night.load("lines") is None
    assert night.raw("select x from raw_drop.lines") == [("1",)]
    corrected = {2: lambda: (tmp_path / "cut.csv").write_text("x\n2\n3\nT,2\n")}
    night.follow("part skipped", "drop.lines", hands=corrected)


@exercise("budget reached")
def test_a_table_that_never_catches_up(night: Night) -> None:
    followed = filled(night, "catching_up", cursor=Sequence("id"))
    night.at_source("insert into catching_up select n, n from generate_series(11, 2000) as n")
    night.declare(replace(followed, budget=Budget(rows=100)))
    for _ in range(3):
        assert night.load("catching_up") is None
    night.follow("budget reached", "shop.catching_up", hands={2: lambda: night.declare(followed)})


@exercise("content differs")
def test_content_that_differs(night: Night) -> None:
    table = filled(night, "written_into", cursor=Timestamp("at"))
    night.raw("update raw_shop.written_into set v = 99 where id = 3")
    night.compare(table)
    night.follow("content differs", "shop.written_into")


def deleted(night: Night, name: str) -> str:
    """Half of a table's rows were deleted, and a load asks whether that is meant; the question's number."""
    filled(night, name, 1000, cursor=Timestamp("at"), deletes=True, max_deleted=0.1, on_refusal=Ask(("deletes",)))
    night.at_source(f"delete from {name} where id > 500")
    assert isinstance(night.load(name), DataRefused)
    [(number,)] = night.raw("select max(decision_id)::text from ops.decisions")
    return str(number)


@exercise("decision needed")
def test_a_question_that_is_accepted(night: Night) -> None:
    number = deleted(night, "asking")
    night.follow("decision needed", "shop.asking", DECISION=number)
    assert night.raw("select count(*) from raw_shop.asking where _deleted_at is null") == [(500,)]


@exercise("business")
def test_a_question_that_is_refused(night: Night) -> None:
    number = deleted(night, "asking_again")
    restored = "insert into asking_again select n, n from generate_series(501, 1000) as n"
    night.follow(
        "business", "shop.asking_again", alert="decision needed", hands={4: lambda: night.at_source(restored)},
        DECISION=number,
    )  # fmt: skip
    assert night.raw("select count(*) from raw_shop.asking_again where _deleted_at is null") == [(1000,)]


@exercise("rows quarantined")
def test_rows_in_quarantine(night: Night) -> None:
    filled(night, "quarantined", cursor=Timestamp("at"), rules=(Rule("positive", "v > 0"),), max_quarantined=0.5)
    night.at_source("insert into quarantined values (11, -1, now())")
    assert night.load("quarantined") is None
    corrected = "update quarantined set v = 1, at = now() where id = 11"
    night.follow("rows quarantined", "shop.quarantined", hands={3: lambda: night.at_source(corrected)})


@pytest.mark.parametrize("outcome", ["failed", "warned"])
@exercise("check failed")
@exercise("check warns")
def test_a_check_of_a_gate(night: Night, outcome: str) -> None:
    name = {"failed": "check failed", "warned": "check warns"}[outcome]
    rows: list[str] = [outcome]
    night.checked(outcome)
    night.build = lambda: night.checked(*rows or ["passed"])
    night.follow(name, "raw_shop.stores", hands={2: rows.clear}, DATASET="raw_shop.stores")


@exercise("run failed")
def test_a_run_that_failed(night: Night) -> None:
    night.declare(STORES)
    number = night.begin_run("ingest", "shop")
    night.end_run(
        number, "failed", ConfigurationError("the connection URL is not configured", where="shop", fix="set it")
    )
    night.follow("run failed", "ingest shop", SOURCE="shop")


@exercise("run refused")
def test_a_run_that_was_refused(night: Night) -> None:
    night.end_run(
        night.begin_run("transform", ""), "refused", DataRefused("a model differs", where="gold", fix="see it")
    )
    night.follow("run refused", "transform")


@exercise("run ended early")
def test_a_run_that_was_cancelled(night: Night) -> None:
    night.declare(STORES)
    number = night.begin_run("ingest", "shop")
    night.stop_run(number)
    night.follow("run ended early", "ingest shop", SOURCE="shop", RUN=str(number))
    assert night.it.told == ["opened run ended early ingest shop"]


@exercise("schema changed")
def test_a_source_with_another_column(night: Night) -> None:
    filled(night, "changing")
    night.at_source("alter table changing add column w int")
    assert night.load("changing") is None
    night.follow("schema changed", "shop.changing")


@exercise("transient")
def test_a_source_that_did_not_answer(night: Night) -> None:
    filled(night, "away")
    away = replace(night.ends.shop, cluster=replace(night.ends.shop.cluster, port=1))
    there, night.ends = night.ends, replace(night.ends, shop=away)
    assert night.load("away")
    assert night.class_of("shop.away") == "transient"

    def back() -> None:
        night.ends = there

    night.follow("transient", "shop.away", alert="load failed", hands={3: back})


@exercise("resource")
def test_a_limit_that_is_exhausted(night: Night) -> None:
    filled(night, "exhausted")
    night.at_source(
        "create function full_disk() returns int language plpgsql as "
        "$$ begin raise exception 'no space left' using errcode = '53100'; end $$"
    )
    night.at_source("alter table exhausted rename to exhausted_rows")
    night.at_source("create view exhausted as select id, v + full_disk() * 0 as v, at from exhausted_rows")
    night.at_source("grant select on exhausted to medallion_extractor")
    assert night.load("exhausted")
    assert night.class_of("shop.exhausted") == "resource"
    freed = "create or replace function full_disk() returns int language sql as 'select 1'"
    night.follow("resource", "shop.exhausted", alert="load failed", hands={2: lambda: night.at_source(freed)})


@exercise("data")
def test_data_that_breaks_a_rule(night: Night) -> None:
    filled(night, "broken", rules=(Rule("positive", "v > 0"),), max_quarantined=0.0, quarantine_floor=0)
    night.at_source("update broken set v = -1")
    assert night.load("broken")
    assert night.class_of("shop.broken") == "data"
    night.follow(
        "data", "shop.broken", alert="load refused", hands={2: lambda: night.at_source("update broken set v = 1")}
    )


@exercise("schema")
def test_a_column_that_was_retyped(night: Night) -> None:
    filled(night, "retyped")
    night.at_source("alter table retyped alter v type text")
    assert night.load("retyped")
    assert night.class_of("shop.retyped") == "schema"
    night.follow("schema", "shop.retyped", alert="load refused")
    assert night.raw("select pg_typeof(v)::text from raw_shop.retyped limit 1") == [("text",)]


@exercise("permanent")
def test_a_grant_that_is_missing(night: Night) -> None:
    filled(night, "ungranted")
    night.at_source("revoke select on ungranted from medallion_extractor")
    assert night.load("ungranted")
    assert night.class_of("shop.ungranted") == "permanent"
    granted = "grant select on ungranted to medallion_extractor"
    night.follow("permanent", "shop.ungranted", alert="load failed", hands={2: lambda: night.at_source(granted)})
