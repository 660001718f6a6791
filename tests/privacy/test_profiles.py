"""Profiles of loads tell nothing of a person, and are kept by load for a quarter, by day for longer."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.declare import Hashed
from flows.privacy.erase import erase
from flows.purge import purge_expired
from flows.quality.profile import Profiling
from flows.sources.shop import shop as shop_source
from flows.values.settings import settings
from flows.verbs import load as loading
from flows.verbs.profiling import profiling_of
from tests.conftest import TestDatabase
from tests.kinds.loading import addresses, load
from tests.operations.profiles import profiled
from tests.privacy.one_household import HOUSEHOLD, KEY, WORDS
from tests.publish.two_ends import Rows, run_sql

_TOLD = (
    "select column_name from ops.profiles where table_name = 'households' and (quantiles is not null or shares is not "
    "null or distinct_values is not null) "
    "and column_name in ('household_id', 'full_name', 'email', 'phone', 'latitude')"
)


def rows(warehouse: TestDatabase, query: str) -> Rows:
    return run_sql(warehouse.url("loader"), query)


def test_a_profile_says_nothing_of_a_person_and_an_erasure_leaves_it(held: TestDatabase) -> None:
    assert rows(held, "select count(*) from ops.profiles where table_name = 'households'") != [(0,)]
    assert rows(held, _TOLD) == []
    profiles = "select p::text from ops.profiles as p where table_name = 'households' order by column_name"
    before = rows(held, profiles)
    assert not [word for word in WORDS if word in str(before)]
    erased = asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))
    assert not [found for found in erased.remains if "ops.prof" in str(found)]
    assert rows(held, profiles) == before


def test_the_control_without_its_subjects_a_profile_measures_them(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "profiling_of", lambda *_: Profiling(1000))
    asyncio.run(load(warehouse, shop, "households"))
    assert {name for (name,) in rows(warehouse, _TOLD)} == {"household_id", "full_name", "email", "phone"}


def test_after_a_quarter_profiles_of_loads_go_and_those_of_days_remain(
    warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(variable, value)
    settings.cache_clear()
    today = datetime.now(UTC).date()
    profiled(warehouse, "status", {today - timedelta(days=n): 0.5 for n in (95, 93, 60)})
    gone = {line.place: line.count for line in asyncio.run(purge_expired(delete=True, results=tmp_path))}
    assert gone == {"ops.profiles": 2}
    assert rows(warehouse, "select count(*) from ops.profiles") == [(1,)]
    assert rows(warehouse, "select null_share from ops.profile_days") == [(0.5,), (0.5,)]
    settings.cache_clear()


def test_listed_masked_and_personal_columns_have_only_nulls() -> None:
    households = replace(shop_source.table("households"), masked={"a[b]": Hashed()})
    found = profiling_of(shop_source, households)
    assert [name for name in ("latitude", "a[b]", "email", "basket_id") if not found.only_nulls(name)] == []
    assert [name for name in ("age_band", "latitudes") if found.only_nulls(name)] == []
    assert not profiling_of(shop_source, shop_source.table("stores")).only_nulls("latitude")
