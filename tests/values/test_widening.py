"""Types that can become wider without changing a value, or the text of one."""

import pytest

from flows.values.widening import widens


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("smallint", "integer"),
        ("integer", "bigint"),
        ("character varying(10)", "character varying(20)"),
        ("character varying(10)", "character varying"),
        ("character varying", "text"),
        ("text", "character varying"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("numeric(10,2)", "numeric"),
        ("timestamp(3) with time zone", "timestamp with time zone"),
        ("timestamp(0) without time zone", "timestamp(3) without time zone"),
        ("bit varying(3)", "bit varying(4)"),
    ],
)
def test_wider(old: str, new: str) -> None:
    assert widens(old, new)
    assert not widens(new, old) or {old, new} <= {"text", "character varying"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("real", "double precision"),
        ("integer", "numeric"),
        ("integer", "text"),
        ("numeric(10,2)", "numeric(12,3)"),
        ("numeric", "numeric(12,3)"),
        ("text", "character varying(200)"),
        ("character(3)", "character(4)"),
        ("timestamp without time zone", "timestamp with time zone"),
        ("date", "timestamp without time zone"),
        ("integer[]", "bigint[]"),
        ('"raw_shop"."mood"', "text"),
        ("json", "jsonb"),
    ],
)
def test_not_wider(old: str, new: str) -> None:
    assert not widens(old, new)
