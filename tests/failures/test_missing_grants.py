"""A right that is missing: the statement that the error prints is pasted as it stands, and the load goes on."""

import re
from typing import cast

import pytest

from flows.declare import Merge
from flows.failures.missing_grants import missing_grants
from flows.kinds.postgres import Table
from flows.values.connection import DatabaseConnection
from flows.values.errors import FailureClass, MedallionError
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds, run_sql

STORES = Table("stores", key="store_id", load=Merge())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


async def refused(ends: TwoEnds) -> MedallionError:
    with pytest.raises(MedallionError) as failed:
        await ends.load(STORES)
    assert "42501" in failed.value.what
    assert failed.value.failure_class is FailureClass.PERMANENT
    return failed.value


def printed(error: MedallionError) -> str:
    """The statement, as a person copies it from the panel."""
    return cast("re.Match[str]", re.search(r"grant [^;]+;", error.fix))[0]


async def test_a_source_table_is_named_with_its_schema(ends: TwoEnds) -> None:
    ends.source("revoke select on stores from medallion_extractor")
    statement = printed(await refused(ends))
    assert statement == "grant select on public.stores to medallion_extractor;"
    ends.source(statement)
    assert (await ends.load(STORES)).counts.rows_inserted


@pytest.mark.parametrize("right", ["select", "update"])
async def test_so_is_a_table_of_raw_whose_owner_lost_a_right(ends: TwoEnds, right: str) -> None:
    await ends.load(STORES)
    ends.source("update stores set name = 'another', updated_at = now()")
    ends.raw(f"revoke {right} on raw_shop.stores from medallion_loader")
    statement = printed(await refused(ends))
    assert statement == f"grant {right} on raw_shop.stores to medallion_loader;"
    ends.raw(statement)
    assert (await ends.load(STORES)).counts.rows_updated


def test_names_that_need_quotes_have_them(warehouse: TestDatabase) -> None:
    run_sql(warehouse.url("loader"), 'create schema "Raw x"')
    run_sql(warehouse.url("loader"), 'create table "Raw x"."Odd ""Table" as select 1 as id')
    run_sql(warehouse.url("loader"), 'revoke select on "Raw x"."Odd ""Table" from medallion_transformer')
    transformer = DatabaseConnection("warehouse", warehouse.url("transformer"))
    statement = missing_grants(transformer, 'permission denied for table Odd "Table')
    assert statement == 'grant select on "Raw x"."Odd ""Table" to medallion_transformer;'
    run_sql(warehouse.url("loader"), statement)
    assert run_sql(warehouse.url("transformer"), 'select * from "Raw x"."Odd ""Table"') == [(1,)]
    assert missing_grants(transformer, 'permission denied for table Odd "Table') == ""
