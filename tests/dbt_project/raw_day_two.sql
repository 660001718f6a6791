-- What the second day's loads leave behind, as batch 2.
set search_path = raw_shop;

-- New sales of the last day, among them two lines of a product and one of a basket that nobody knows.
insert into baskets values (31000200, 1, 301, '2017-12-31 10:00+00', 53, '2017-12-31 10:00+00', now(), 'shop', 2, null);
insert into basket_items values
(9001, 31000200, 25001, 1, 10.00, 0, 0, 0, '2017-12-31 10:00+00', now(), 'shop', 2, null),
(9002, 31000200, 77777, 1, 3.33, 0, 0, 0, '2017-12-31 10:00+00', now(), 'shop', 2, null),
(9003, 31000200, 77777, 2, 6.66, 0, 0, 0, '2017-12-31 10:00+00', now(), 'shop', 2, null),
(9004, 39999999, 25001, 1, 5.55, 0, 0, 0, '2017-12-31 10:00+00', now(), 'shop', 2, null);

-- A line that arrives late: its timestamp is older than everything loaded, and so is its batch.
insert into basket_items values
(9005, 31000001, 25002, 1, 2.22, 0, 0, 0, '2016-12-31 10:00+00', '2016-12-31 10:00+00', 'shop', 0, null);

-- A corrected line.
update basket_items
set sales_value = 99.99, updated_at = now(), _extracted_at = now(), _batch_id = 2
where basket_item_id = 21;

-- A deleted line; a deleted basket with its three lines. A tombstone keeps the batch that brought the row.
update basket_items set _deleted_at = now() where basket_item_id = 31 or basket_id = 31000004;
update baskets set _deleted_at = now() where basket_id = 31000004;

-- A household that moved in November, of which the platform hears only now; one with a broken address.
update households
set income_band = '250K+', updated_at = '2017-11-01 00:00+00', _extracted_at = now(), _batch_id = 2
where household_id = 20;
update households
set email = 'broken@@example', updated_at = now(), _extracted_at = now(), _batch_id = 2
where household_id = 21;
update households
set phone = 'call me', latitude = 0, longitude = 0, updated_at = now(), _extracted_at = now(), _batch_id = 2
where household_id = 24;

-- A renamed product; one taken off the list.
update products set product_type = 'RENAMED', updated_at = now(), _extracted_at = now(), _batch_id = 2
where product_id = 25003;
delete from products where product_id = 25099;

-- A store that closed, where much was sold; one under a new name.
delete from stores where store_id = 303;
update stores set name = 'Renamed', _extracted_at = now(), _batch_id = 2 where store_id = 304;

update raw_marketing.coupons
set
    payload = jsonb_set(payload, '{terms}', '{"min_spend": "10.00", "currency": "USD"}'), updated_at = now(),
    _extracted_at = now(), _batch_id = 2
where id = '1-501';
insert into raw_marketing.redemptions
select 6, now(), jsonb_set(payload, '{household,id}', '999'), now(), 'marketing', 2, null
from raw_marketing.redemptions where id = 5;

-- A target whose household is no number.
update raw_marketing.campaign_targets
set payload = jsonb_set(payload, '{household,id}', '"five"'), updated_at = now(), _extracted_at = now(), _batch_id = 2
where id = '3-5';

-- A rate that is none, and the day before's corrected.
update raw_currency.exchange_rates
set
    payload = jsonb_set(payload, '{rate}', case id when '2017-12-29-EUR' then '"n/a"' else '"0.80"' end::jsonb),
    updated_at = now(), _extracted_at = now(), _batch_id = 2
where id in ('2017-12-28-EUR', '2017-12-29-EUR');

-- The shop begins to keep its promotions: three products in two stores, each week from January to June; in May one of a
-- product that nobody knows.
create table raw_shop.promotions (
    promotion_id bigint primary key,
    product_id bigint not null,
    store_id bigint not null,
    week_starts_on date not null,
    display_location text not null,
    mailer_location text not null,
    updated_at timestamptz not null,
    _extracted_at timestamptz not null default now(),
    _source_system text not null default 'shop',
    _batch_id bigint not null default 2,
    _deleted_at timestamptz
);
insert into raw_shop.promotions
select
    week * 10 + place, 25001 + place % 3, 301 + place / 3, date '2017-01-01' + week * 7, (place % 2)::text, 'A', now()
from generate_series(0, 25) as week
cross join generate_series(0, 5) as place;
update raw_shop.promotions set product_id = 77777 where promotion_id = 180;

-- What household 22 earns has changed in October.
update raw_shop.households
set income_band = '250K+', updated_at = '2017-10-01 00:00+00', _extracted_at = now(), _batch_id = 2
where household_id = 22;
