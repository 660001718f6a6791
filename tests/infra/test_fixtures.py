"""What every test leans on: databases of its own, and the Prefect server of the run."""

import psycopg

from tests.conftest import TestDatabase


def test_a_test_finds_the_tables_of_operations_and_no_rows(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("loader")) as connection:
        assert connection.execute("select count(*) from ops.runs").fetchone() == (0,)
        connection.execute("insert into ops.runs (pipeline) values ('left behind')")


def test_what_one_test_wrote_the_next_does_not_see(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("loader")) as connection:
        assert connection.execute("select count(*) from ops.runs").fetchone() == (0,)


def test_the_small_shop_has_the_shapes_of_the_real_one(shop: TestDatabase) -> None:
    with psycopg.connect(shop.url("extractor")) as connection:
        counts = connection.execute(
            "select (select count(*) from households), (select count(*) from household_events), "
            "(select count(*) from stores), (select count(*) from products), (select count(*) from baskets), "
            "(select count(*) from basket_items), (select count(distinct (basket_id, product_id)) from basket_items), "
            "(select count(*) from baskets where updated_at <> sold_at), "
            "(select max(extract(year from updated_at)) from baskets)"
        ).fetchone()
    assert counts == (60, 60, 5, 40, 150, 450, 450, 0, 2017)


async def test_prefect_in_a_test_talks_to_the_server_of_the_run(prefect_server: str) -> None:
    from prefect import get_client

    async with get_client() as client:
        assert str(client.api_url).rstrip("/") == prefect_server
        assert await client.api_healthcheck() is None
