"""Gold as far as the churn model reads it: a year of shopping days of made-up households."""

import psycopg

from tests.conftest import TestDatabase
from tests.dbt_project.macro_sql import write

_TABLES = """
create table gold.dim_household (household_key uuid, household_id bigint, is_current boolean, is_deleted boolean);
create table gold.fct_basket_lines (
    household_key uuid, basket_id bigint, sold_on date, sales_value numeric(10, 2), shelf_value numeric(10, 2)
);
create view gold.agg_daily_sales as
select distinct sold_on, sold_on <> date '2018-01-02' as is_complete from gold.fct_basket_lines;
"""
# Dice that fall the same way every time, and for each household and day anew: a condition on random() alone would be
# thrown once a household, where the planner likes that better.
_DICE = """
create function pg_temp.dice(what text) returns double precision immutable language sql as $$
    select (hashtextextended(what, 42) & 1048575) / 1048576.0
$$;
"""
# Some shop often and some seldom, and every third leaves for good one day.
_WITH_HABITS = """
insert into gold.dim_household
select md5(id::text)::uuid, id, true, id = 7 from generate_series(1, 400) as id;
with habits as (
    select
        id,
        0.05 + 0.35 * pg_temp.dice('often' || id) as often,
        case when id % 3 = 0 then date '2017-02-01' + (pg_temp.dice('leaves' || id) * 333)::integer end as leaves_on
    from generate_series(1, 400) as id
)
insert into gold.fct_basket_lines
select
    md5(id::text)::uuid, id * 1000 + extract(doy from day)::integer, day,
    10 + 20 * pg_temp.dice(id || '$' || day), 35
from habits, generate_series(date '2017-01-01', '2017-12-31', interval '1 day') as day
where (leaves_on is null or day < leaves_on) and pg_temp.dice(id || '/' || day) < often;
"""
# Everybody throws the same dice every day: there is nothing to learn.
_WITHOUT_HABITS = """
insert into gold.dim_household
select md5(id::text)::uuid, id, true, false from generate_series(1, 400) as id;
insert into gold.fct_basket_lines
select
    md5(id::text)::uuid, id * 1000 + extract(doy from day)::integer, day,
    10 + 20 * pg_temp.dice(id || '$' || day), 35
from generate_series(1, 400) as id, generate_series(date '2017-01-01', '2017-12-31', interval '1 day') as day
where pg_temp.dice(id || '/' || day) < 0.06;
"""


def fill_gold(warehouse: TestDatabase, *, with_habits: bool = True) -> None:
    """Gold of 400 households, of which number 7 was deleted, and the empty tables of schema ml."""
    run(warehouse, _TABLES, _DICE, _WITH_HABITS if with_habits else _WITHOUT_HABITS, write("prediction_tables"))


def run(warehouse: TestDatabase, *statements: str) -> None:
    """Run SQL as the transformer."""
    with psycopg.connect(warehouse.url("transformer")) as connection:
        for statement in statements:
            connection.execute(statement.encode())
