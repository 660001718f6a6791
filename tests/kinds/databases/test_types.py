"""Types and SQL of engines that no test can run here, and what must hold of every engine."""

import re
import sys

import pytest

from flows.declare import Replace
from flows.declare.database import Engine
from flows.kinds.databases.connection import explain, open_reader
from flows.kinds.databases.dialects import DIALECTS
from flows.kinds.databases.types import TYPES, SourceColumn, typed, types_table
from flows.kinds.postgres import Table
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, SourceError, SourceUnavailable
from tests.docs.markdown import ROOT

ENGINES: tuple[Engine, ...] = ("mysql", "sqlite", "mssql")


@pytest.mark.parametrize(
    ("type_name", "raw_type"),
    [
        ("bit", "boolean"),
        ("tinyint", "smallint"),
        ("decimal", "numeric(38,10)"),
        ("money", "numeric(19,4)"),
        ("float", "double precision"),
        ("datetime", "timestamp(3) without time zone"),
        ("datetime2:6", "timestamp(3) without time zone"),
        ("datetime2:7", "text"),
        ("time:3", "time(3) without time zone"),
        ("datetimeoffset", "text"),
        ("nvarchar:max", "text"),
        ("uniqueidentifier", "uuid"),
        ("rowversion", "bytea"),
        ("sql_variant", "text"),
    ],
)
def test_a_type_of_sql_server_becomes(type_name: str, raw_type: str) -> None:
    column = SourceColumn("c", type_name, precision=38, scale=10, fraction=3)
    assert typed("mssql", column, "s.[c]").raw_type == raw_type


def test_sql_server_is_asked_in_its_own_words() -> None:
    dialect = DIALECTS["mssql"]
    table = Table("orders", load=Replace(), schema="sal]es")
    assert dialect.limited("1", table, "1 = 1", "s.[id]", 5) == (
        "select top (5) 1 from [sal]]es].[orders] as s where 1 = 1 order by s.[id]"
    )
    assert dialect.literal("it's") == "N'it''s'"
    assert "without_array_wrapper" in dialect.document({"a": "x"})
    assert dialect.begin[0] == "set transaction isolation level snapshot"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["a`b", 'a"b', "a]b", "a'b", "a\\b", "a; drop table x", "é"])
def test_a_name_cannot_break_out_of_its_quotes(engine: Engine, name: str) -> None:
    dialect = DIALECTS[engine]
    quoted = dialect.quote(name)
    end = quoted[-1]
    assert end not in quoted[1:-1].replace(end * 2, "")
    literal = dialect.literal(name)
    inside = literal[literal.index("'") + 1 : -1].replace("''", "")
    assert "'" not in inside
    assert engine != "mysql" or re.fullmatch(r"[0-9a-f]+", inside)


@pytest.mark.parametrize("engine", ENGINES)
def test_any_type_has_a_rule(engine: Engine) -> None:
    assert typed(engine, SourceColumn("c", "something new"), "s.c").raw_type in ("text", "numeric")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_documents_show_the_table_of_types(engine: Engine) -> None:
    assert len(TYPES[engine]) > 5
    assert types_table(engine) in (ROOT / "docs/other-databases.md").read_text(encoding="utf-8")


async def test_without_the_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_sqlite.dbapi", None)
    with pytest.raises(ConfigurationError, match="uv sync --extra databases"):
        async with open_reader("sqlite", DatabaseConnection("erp", "sqlite:///x.db"), "erp.t", 1):
            pass


@pytest.mark.parametrize(
    ("text", "kind", "retryable"),
    [
        ("State: 28000, Native error: 1045, Message: Access denied for 'bob'", ConfigurationError, False),
        ("State: HY000, Native error: 2013, Message: Lost connection 'bob'", SourceUnavailable, True),
        ("State: 08S01, Native error: 0, Message: gone 'bob'", SourceUnavailable, True),
        ("State: 22007, Native error: 1292, Message: Incorrect value 'bob'", SourceError, False),
        ("something about bob", SourceError, False),
    ],
)
def test_a_drivers_words_are_not_passed_on(text: str, kind: type[Exception], retryable: bool) -> None:
    error = explain(RuntimeError(text), "erp.orders")
    assert type(error) is kind
    assert error.retryable is retryable
    assert "bob" not in str(error)
