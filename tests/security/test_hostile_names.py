"""A source may call its tables' columns, types and labels anything. Every name stays a name, wherever it is written."""

import asyncio
import io
import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import psycopg
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from psycopg import sql
from rich.console import Console

from flows.declare import Merge, Replace, Rule, Timestamp
from flows.kinds.api import Api, ApiKeyHeader, Endpoint
from flows.kinds.postgres import Database, Table
from flows.models.lineage_page import lineage_page
from flows.models.manifest import Manifest
from flows.observe import look
from flows.observe.artifacts import LoadLine, loads_table_markdown
from flows.observe.logs import JsonFormatter, PrettyFormatter, RedactingFilter
from flows.observe.markdown import cell
from flows.render.rendered_yaml import dump
from flows.values.errors import DeclarationError, WarehouseError
from flows.values.visible import visible
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import at, rows

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
NAMES = [
    'x"; drop table canary; --',
    "x'; drop table canary; --",
    "$1",
    "%s %(x)s {0} {{ 1 }}",
    "a\nb\tc",
    ESCAPE,
    "\u202egnp.exe",
    "😀",
    "é" * 31,
    "x" * 63,
    "select",
    "_",
    "\\",
    "::text",
    "t.a",
    "payload",
    "<script>alert(1)</script>",
    "[bold]no[/bold][/]",
    "| cell",
]
NAME = st.one_of(
    st.sampled_from(NAMES),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12),
).map(lambda name: name.encode()[:63].decode(errors="ignore"))


def hostile_table(shop: TestDatabase, columns: list[str], type_name: str, labels: list[str]) -> None:
    """A table whose key, cursor and other columns have these names, and a type and labels of others."""
    key, cursor, *others = map(sql.Identifier, columns)
    with psycopg.connect(shop.url("app"), autocommit=True) as app:
        app.execute("drop table if exists hostile")
        app.execute(sql.SQL("drop type if exists {}").format(sql.Identifier(type_name)))
        app.execute(
            sql.SQL("create type {} as enum ({})").format(
                sql.Identifier(type_name), sql.SQL(", ").join(map(sql.Literal, labels))
            )
        )
        defined = [sql.SQL("{} int primary key").format(key), sql.SQL("{} timestamptz default now()").format(cursor)]
        defined += [sql.SQL("{} {} default {}").format(other, sql.Identifier(type_name), sql.Literal(labels[0]))
                    for other in others]  # fmt: skip
        app.execute(sql.SQL("create table hostile ({})").format(sql.SQL(", ").join(defined)))
        app.execute(sql.SQL("insert into hostile ({}) select generate_series(1, 5)").format(key))


def change_all(shop: TestDatabase, columns: list[str]) -> None:
    key, cursor = map(sql.Identifier, columns[:2])
    with psycopg.connect(shop.url("app"), autocommit=True) as app:
        app.execute(sql.SQL("update hostile set {} = now() where {} = 2").format(cursor, key))
        app.execute(sql.SQL("delete from hostile where {} = 3").format(key))
        app.execute("alter table hostile add column if not exists \"added'\"\"\\\" text default 'it''s'")


@hypothesis(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a load takes a while: what failed is not made smaller
)
@given(
    columns=st.lists(NAME.filter(lambda name: not name.startswith("_")), min_size=3, max_size=4, unique=True),
    type_name=NAME,
    labels=st.lists(NAME, min_size=1, max_size=3, unique=True),
)
def test_a_table_of_hostile_names_is_loaded_under_the_same_names_and_nothing_else_happens(
    warehouse: TestDatabase, shop: TestDatabase, columns: list[str], type_name: str, labels: list[str]
) -> None:
    """Key, cursor, deletes, a new column, quarantine, comparison by content: each writes the names into SQL again."""
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        loader.execute("drop schema if exists raw_hostile cascade")
        loader.execute("create schema if not exists kept; create table if not exists kept.canary (id int)")
        for name in ("loads", "cursors", "schema_changes", "reconciliations"):
            loader.execute(sql.SQL("delete from ops.{} where source_system = 'hostile'").format(sql.Identifier(name)))
    hostile_table(shop, columns, type_name, labels)
    table = Table("hostile", key=columns[0], cursor=Timestamp(columns[1], lag="1 min"), load=Merge(), deletes=True,
                  max_deleted=1, max_quarantined=1, rules=(Rule("never_broken", "true"),))  # fmt: skip
    source = Database("hostile", connection="shop", tables=[table])
    ends = (at(warehouse, "loader"), at(shop, "extractor"))

    asyncio.run(load_table(*ends, source, table))
    change_all(shop, columns)
    second = asyncio.run(load_table(*ends, source, table))

    assert second.counts.reconciliation == "match"
    held = rows(warehouse, "select attname from pg_attribute where attrelid = 'raw_hostile.hostile'::regclass "
                "and attnum > 0 and not attisdropped order by attnum")  # fmt: skip
    assert {*columns, "added'\"\\"} <= {row["attname"] for row in held}
    assert asyncio.run(compare_table(*ends, source, table)).result == "match"
    assert rows(warehouse, "select count(*) as n from kept.canary") == [{"n": 0}]
    assert len(rows(warehouse, "select from raw_hostile.hostile where _deleted_at is null")) == 4


@hypothesis(max_examples=200, deadline=None)
@given(name=st.text(max_size=50))
@pytest.mark.parametrize("declare", [
    lambda name: Database(name, connection="x", tables=[Table("a", load=Replace())]),
    lambda name: Database("x", connection=name, tables=[Table("a", load=Replace())]),
    lambda name: Table(name, load=Replace()),
    lambda name: Endpoint(name, path="/x"),
    lambda name: Rule(name, "true"),
], ids=["source", "connection", "table", "endpoint", "rule"])  # fmt: skip
def test_a_name_that_becomes_a_schema_a_file_or_a_variable_is_plain_or_refused(declare: object, name: str) -> None:
    """`../../etc/x` would be a file elsewhere, and a line break a second line of whatever is rendered."""
    assert callable(declare)
    if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        declare(name)
    else:
        with pytest.raises(DeclarationError) as refused:
            declare(name)
        assert "\n" not in refused.value.where


@pytest.mark.parametrize(
    "path", ["/x\r\nHost: evil.example", "/x y", "/../admin", "/a/../../b", "/a#b", "/a\\b", "/\x00", "x"]
)
def test_a_path_that_leads_elsewhere_or_ends_the_request_line_is_refused(path: str) -> None:
    with pytest.raises(DeclarationError):
        Endpoint("x", path=path)


@pytest.mark.parametrize("header", ["X-Key\r\nHost", "X Key", "", "X:Key", "é"])
def test_a_header_that_would_be_two_is_refused(header: str) -> None:
    with pytest.raises(DeclarationError):
        Api("x", connection="x", auth=ApiKeyHeader(header), endpoints=[])


@hypothesis(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_what_is_visible_obeys_nobody_and_stays_readable(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", shown)
    if text.isascii() and text.isprintable():
        assert shown == text


def test_an_error_that_names_a_hostile_column_does_nothing_to_the_terminal() -> None:
    error = WarehouseError(f"column {ESCAPE} is gone\nreally", where=f"shop.x\n{ESCAPE}", fix=ESCAPE)
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=True, color_system=None)
    console.print(look.error_panel(error))
    assert "\x1b" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()
    assert "\\x1b]0;owned" in screen.getvalue()
    assert "\n" not in error.where


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_of_the_screen_shows_a_hostile_name_as_it_is_called(name: str) -> None:
    """`[/]` alone ended the command with an error of the markup's."""
    screen = io.StringIO()
    table = look.grid("title", ["column"])
    table.add_row(name)
    Console(file=screen, width=200, force_terminal=True, color_system=None).print(table)
    assert "\x1b" not in screen.getvalue()
    first = visible(name, lines=True).splitlines()[0].expandtabs()
    assert first.strip() in screen.getvalue()


@pytest.mark.parametrize("formatter", [JsonFormatter(), PrettyFormatter()])
def test_a_log_line_cannot_be_rewritten_by_what_it_names(formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord(
        {"msg": "column %s came", "args": (ESCAPE,), "levelno": 20, "table": f"a{ESCAPE}\nb"}
    )
    RedactingFilter().filter(record)
    line = formatter.format(record)
    assert "\x1b" not in line
    assert "\n" not in line


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`|`", "![](//e)"]
)
def test_an_artifact_shows_a_hostile_name_as_text(text: str) -> None:
    """Artifacts are Markdown that the Prefect server shows in a browser."""
    page = loads_table_markdown([LoadLine("shop", "x", "merge", "published", note=text)])
    tags = _Tags()
    tags.feed(page)
    assert tags.seen == []
    line = next(line for line in page.splitlines() if "shop.x" in line)
    assert not re.search(r"(?<!\\)[\[\]`]", line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 15
    assert cell("a\nb") == "a b"


@pytest.mark.parametrize("text", ["</script><script>alert(1)//", "<!--<script>", "\u2028"])
def test_the_lineage_page_ends_where_it_should(text: str) -> None:
    """`<!--<script>` in a description makes a browser look for a second end of the page's script."""
    node = {
        "unique_id": "model.m.x", "resource_type": "model", "name": "x", "alias": "x", "schema": "gold",
        "database": "w", "description": text, "columns": {}, "config": {"materialized": "table"},
        "fqn": ["m", "gold", "x"],
        "depends_on": {"nodes": []}, "compiled_code": "select 1 as a", "raw_code": "select 1 as a", "tags": [],
        "original_file_path": "models/gold/x.sql", "relation_name": '"w"."gold"."x"', "package_name": "m",
        "path": "gold/x.sql", "meta": {}, "checksum": {"name": "sha256", "checksum": ""},
    }  # fmt: skip
    content = {"metadata": {}, "nodes": {"model.m.x": node}, "sources": {}, "exposures": {}, "macros": {}}
    page = lineage_page(Manifest.read(json.dumps(content).encode()))
    script = re.search(r"const lineage = (.*);\n", page)
    assert script is not None
    assert "<" not in script[1]
    assert json.loads(script[1])["relations"][0]["about"] == " ".join(text.split())


@hypothesis(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_rendered_yaml_says_what_it_was_given(text: str) -> None:
    assert yaml.safe_load(dump({"description": text, "columns": [{"name": text}]})) == {
        "description": text, "columns": [{"name": text}]
    }  # fmt: skip


def test_this_file_is_read_as_it_was_written() -> None:
    """No name above is hidden from whoever reviews this file: marks of direction are written out."""
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", Path(__file__).read_text(encoding="utf-8"))
