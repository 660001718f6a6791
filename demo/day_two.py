"""Day two: changes in the shop after the pipeline's first run, including broken records.

Each kind of change is one transaction of the application. Which rows are touched follows from fixed rules on what the
shop holds, so that the whole shop and a small one change in the same manner, and every time in the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from demo.sales import Sales, copy_baskets, copy_lines, read_sales
from flows.values.errors import ConfigurationError

MOVED_HOUSEHOLD = 1
RENAMED_PRODUCT = 1082185  # the one sold most often
DELETED_PRODUCT = 26355  # never sold, in no coupon
MALFORMED_EMAILS = {2: "no-at-sign.example.com", 3: "two@@example.org"}
UNKNOWN_PRODUCT = 999_999_999
IMPOSSIBLE_DATES = {90_000_000_001: "infinity", 90_000_000_002: "2107-12-31 12:00:00+00"}
FIRST_BROKEN_LINE = 90_000_000_001

_CORRECTED_LINES = 40
_DELETED_LINES = 25
_WITHIN_THE_LAG = 5

# Lines spread evenly over the year, found through the primary key: the first one at or after each n-th share.
_SPREAD_LINES = """
    with numbers as (select max(basket_item_id) as last from basket_items),
    shares as (
        select ((nth - %(offset)s) * last / %(count)s)::bigint as at from numbers, generate_series(1, %(count)s) as nth
    )
    select distinct chosen.basket_item_id
    from shares
    cross join lateral (
        select basket_item_id from basket_items where basket_item_id >= shares.at order by basket_item_id limit 1
    ) as chosen
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change: what it is in a few words, how many rows of which table it touched, and how to see it."""

    what: str
    table: str
    rows: int
    detail: str


_Connection = psycopg.Connection[tuple[Any, ...]]


def apply_day_two(app_url: str, admin_url: str) -> list[Change]:
    """Apply the changes to a shop at day one; returns them in the order in which they were made.

    `app_url` is that of the tables' owner; `admin_url` that of a superuser, who alone can bypass a foreign key.
    Raises ConfigurationError when the shop is not at day one.
    """
    with psycopg.connect(app_url, autocommit=True) as app, psycopg.connect(admin_url, autocommit=True) as admin:
        sales = read_sales(_highest_household(app))
        late = sales.where(sales.arriving_late())
        corrected = _spread(app, _CORRECTED_LINES, offset=0.75)
        deleted = _spread(app, _DELETED_LINES, offset=0.25)
        steps: list[tuple[_Connection, Callable[[_Connection], list[Change]]]] = [
            (app, lambda shop: _sell(shop, sales.where(sales.of_last_day()))),
            (app, lambda shop: _deliver_late(shop, late)),
            (app, lambda shop: _correct(shop, corrected)),
            (app, _move_household),
            (app, _rename_product),
            (app, lambda shop: _delete_lines(shop, deleted)),
            (app, _delete_basket),
            (app, _delete_product),
            (app, _add_loyalty_tier),
            (app, _sell_negative_quantities),
            (admin, _sell_unknown_product),
            (app, _break_emails),
            (app, _sell_on_impossible_dates),
        ]
        changes: list[Change] = []
        for connection, step in steps:
            with connection.transaction():
                changes.extend(step(connection))
    return changes


def _highest_household(app: _Connection) -> int:
    """How much of the data the shop holds: the households up to this number."""
    if app.execute("select to_regclass('public.basket_items')").fetchone() == (None,):
        raise _not_at_day_one("the shop is empty")
    last_day = app.execute("select exists (select from baskets where updated_at >= '2017-12-31')").fetchone()
    if last_day == (True,):
        raise _not_at_day_one("day two was already applied")
    highest = app.execute("select max(household_id) from households").fetchall()[0][0]
    if highest is None:
        raise _not_at_day_one("the shop is empty")
    return int(highest)


def _not_at_day_one(what: str) -> ConfigurationError:
    return ConfigurationError(what, where="demo shop", fix="load day one first, which also reverts day two")


def _spread(app: _Connection, count: int, offset: float) -> list[int]:
    rows = app.execute(_SPREAD_LINES, {"count": count, "offset": offset}).fetchall()
    return sorted(row[0] for row in rows)


def _microseconds_now(shop: _Connection) -> int:
    return int(shop.execute("select (extract(epoch from now()) * 1000000)::bigint").fetchall()[0][0])


def _sell(shop: _Connection, sales: Sales) -> list[Change]:
    now = _microseconds_now(shop)
    baskets, lines = copy_baskets(shop, sales, now), copy_lines(shop, sales, now)
    return [
        Change("sold on the last day", "baskets", baskets, "2017-12-31, as in the real data"),
        Change("sold on the last day", "basket_items", lines, "2017-12-31, as in the real data"),
    ]


def _deliver_late(shop: _Connection, late: Sales) -> list[Change]:
    now = _microseconds_now(shop)
    on_time = max(len(late) - _WITHIN_THE_LAG, 0)
    baskets = copy_baskets(shop, late, now)
    lines = copy_lines(shop, late.part(0, on_time), now)
    backdated = copy_lines(shop, late.part(on_time, len(late)), now - 5 * 60 * 1_000_000)
    return [
        Change("arrived late", "baskets", baskets, "sold on 2017-12-28"),
        Change("arrived late", "basket_items", lines, "sold on 2017-12-28"),
        Change("stamped in the past", "basket_items", backdated, "updated_at five minutes ago, below the last cursor"),
    ]


def _correct(shop: _Connection, lines: list[int]) -> list[Change]:
    done = shop.execute(
        "update basket_items set sales_value = sales_value + 0.10, updated_at = now() where basket_item_id = any (%s)",
        [lines],
    )
    return [Change("price corrected", "basket_items", done.rowcount, "0.10 more each, all over the year")]


def _move_household(shop: _Connection) -> list[Change]:
    done = shop.execute(
        "update households set income_band = '75-99K', updated_at = now() where household_id = %s", [MOVED_HOUSEHOLD]
    )
    return [Change("income band moved", "households", done.rowcount, f"household {MOVED_HOUSEHOLD}: 35-49K to 75-99K")]


def _rename_product(shop: _Connection) -> list[Change]:
    done = shop.execute(
        "update products set product_type = 'BANANAS - LOOSE', updated_at = now() where product_id = %s",
        [RENAMED_PRODUCT],
    )
    detail = f"product {RENAMED_PRODUCT}: BANANAS to BANANAS - LOOSE"
    return [Change("product renamed", "products", done.rowcount, detail)]


def _delete_lines(shop: _Connection, lines: list[int]) -> list[Change]:
    done = shop.execute("delete from basket_items where basket_item_id = any (%s)", [lines])
    return [Change("deleted", "basket_items", done.rowcount, "single lines, all over the year")]


def _delete_basket(shop: _Connection) -> list[Change]:
    """The basket in the middle of the year: the one whose line is nearest to half of all."""
    basket_id = shop.execute("""
        select basket_id from basket_items
        where basket_item_id >= (select max(basket_item_id) / 2 from basket_items where basket_item_id < 90000000000)
        order by basket_item_id limit 1
    """).fetchall()[0][0]
    lines = shop.execute("delete from basket_items where basket_id = %s", [basket_id]).rowcount
    shop.execute("delete from baskets where basket_id = %s", [basket_id])
    return [
        Change("deleted", "baskets", 1, f"basket {basket_id} with its lines"),
        Change("deleted", "basket_items", lines, f"the lines of basket {basket_id}"),
    ]


def _delete_product(shop: _Connection) -> list[Change]:
    done = shop.execute("delete from products where product_id = %s", [DELETED_PRODUCT])
    return [Change("deleted", "products", done.rowcount, f"product {DELETED_PRODUCT}, never sold")]


def _add_loyalty_tier(shop: _Connection) -> list[Change]:
    shop.execute("alter table households add column loyalty_tier text")
    done = shop.execute("""
        update households
        set loyalty_tier = case when household_id % 50 = 0 then 'gold' else 'silver' end
        where household_id % 10 = 0
    """)
    return [Change("column added", "households", done.rowcount, "loyalty_tier, filled without touching updated_at")]


def _sell_negative_quantities(shop: _Connection) -> list[Change]:
    done = shop.execute(
        """
        insert into basket_items (basket_item_id, basket_id, product_id, quantity, sales_value)
        select %(first)s + row_number() over (order by basket_id desc) - 1, basket_id, %(product)s, -1, 1.00
        from baskets as basket
        where not exists (
            select from basket_items as item where item.basket_id = basket.basket_id and item.product_id = %(product)s
        )
        order by basket_id desc
        limit 3
        """,
        {"first": FIRST_BROKEN_LINE, "product": RENAMED_PRODUCT},
    )
    return [Change("broken: negative quantity", "basket_items", done.rowcount, "quantity -1")]


def _sell_unknown_product(shop: _Connection) -> list[Change]:
    shop.execute("set local session_replication_role = replica")
    done = shop.execute(
        """
        insert into basket_items (basket_item_id, basket_id, product_id, quantity, sales_value)
        select %s + row_number() over (order by basket_id desc) - 1, basket_id, %s, 1, 2.50
        from baskets
        order by basket_id desc
        limit 2
        """,
        [FIRST_BROKEN_LINE + 10, UNKNOWN_PRODUCT],
    )
    detail = f"product {UNKNOWN_PRODUCT}, past the foreign key as a bulk repair does"
    return [Change("broken: unknown product", "basket_items", done.rowcount, detail)]


def _break_emails(shop: _Connection) -> list[Change]:
    rows = 0
    for household_id, email in MALFORMED_EMAILS.items():
        done = shop.execute(
            "update households set email = %s, updated_at = now() where household_id = %s", [email, household_id]
        )
        rows += done.rowcount
    return [
        Change("broken: malformed email", "households", rows, f"households {', '.join(map(str, MALFORMED_EMAILS))}")
    ]


def _sell_on_impossible_dates(shop: _Connection) -> list[Change]:
    for nth, (basket_id, sold_at) in enumerate(IMPOSSIBLE_DATES.items()):
        shop.execute(
            """
            insert into baskets (basket_id, household_id, store_id, sold_at)
            select %s, %s, min(store_id), %s from stores
            """,
            [basket_id, MOVED_HOUSEHOLD, sold_at],
        )
        shop.execute(
            """
            insert into basket_items (basket_item_id, basket_id, product_id, quantity, sales_value)
            values (%s, %s, %s, 1, 3.99)
            """,
            [FIRST_BROKEN_LINE + 20 + nth, basket_id, RENAMED_PRODUCT],
        )
    dates = ", ".join(sold_at[:10] for sold_at in IMPOSSIBLE_DATES.values())
    return [
        Change("broken: impossible date", "baskets", len(IMPOSSIBLE_DATES), f"sold_at {dates}"),
        Change("broken: impossible date", "basket_items", len(IMPOSSIBLE_DATES), "the lines of those baskets"),
    ]
