-- Beside the rows of tests/shop_rows.sql: contact details in every shape, a product nobody buys, and the marketing
-- API's records.
update raw_shop.households
set
    email = case household_id % 3
        when 0 then ' Household.' || household_id || '@EXAMPLE.com '
        when 1 then 'household.' || household_id || '@example.com'
    end,
    phone = case household_id % 6
        when 0 then null
        when 1 then '(513) 555-01' || lpad(household_id::text, 2, '0')
        when 2 then '513.555.01' || lpad(household_id::text, 2, '0')
        when 3 then '+1 513 555 01' || lpad(household_id::text, 2, '0')
        when 4 then '51355501' || lpad(household_id::text, 2, '0')
        else '1-513-555-01' || lpad(household_id::text, 2, '0') || ' ext. 4'
    end;

insert into raw_shop.products
values (25099, 1, 'GROCERY', 'National', 'CHEESE', 'NEVER SOLD', null, '2017-01-01 06:00+00');

insert into raw_marketing.campaigns
select
    id,
    timestamptz '2017-03-01 00:00+00',
    jsonb_build_object(
        'id', id, 'name', null, 'type', (array['Type A', 'Type B', 'Type C'])[id],
        'period', jsonb_build_object('starts_on', '2017-03-01', 'ends_on', '2017-04-30'),
        'updated_at', '2017-03-01T00:00:00Z'
    )
from generate_series(1, 3) as id;

insert into raw_marketing.campaign_targets
select
    campaign || '-' || household,
    timestamptz '2017-03-01 00:00+00',
    jsonb_build_object(
        'id', campaign || '-' || household, 'campaign', jsonb_build_object('id', campaign),
        'household', jsonb_build_object('id', household), 'updated_at', '2017-03-01T00:00:00Z'
    )
from generate_series(1, 3) as campaign
cross join generate_series(1, 5) as household;

insert into raw_marketing.coupons
select
    campaign || '-' || 500 + campaign,
    timestamptz '2017-03-01 00:00+00',
    jsonb_build_object(
        'id', campaign || '-' || 500 + campaign, 'upc', (500 + campaign)::text,
        'campaign', jsonb_build_object('id', campaign),
        'products', '[{"id": 25001}, {"id": 25001}, {"id": 25002}, {"id": 99}]'::jsonb,
        'terms', null, 'updated_at', '2017-03-01T00:00:00Z'
    )
from generate_series(1, 3) as campaign;

insert into raw_marketing.redemptions
select
    id,
    timestamptz '2017-03-10 12:00+00',
    jsonb_build_object(
        'id', id, 'coupon', jsonb_build_object('id', '1-501', 'upc', '501'),
        'campaign', jsonb_build_object('id', 1), 'household', jsonb_build_object('id', id),
        'redeemed_on', '2017-03-10', 'channel', null, 'updated_at', '2017-03-10T12:00:00Z'
    )
from generate_series(1, 5) as id;

-- Where stores and most households are: stores in a row to the north, a household beside one of them.
update raw_shop.stores
set region = case when store_id = 305 then 'XX' else 'OH' end, latitude = 39 + (store_id - 300) * 0.1, longitude = -84.5;
update raw_shop.households
set latitude = 39.01 + (household_id % 5 + 1) * 0.1, longitude = -84.5
where household_id % 10 <> 0;

-- Rates of the working days of December.
insert into raw_currency.exchange_rates
select
    day::date || '-EUR',
    day + interval '15 hours',
    jsonb_build_object(
        'id', day::date || '-EUR', 'date', day::date, 'base', 'USD', 'quote', 'EUR', 'rate', '0.85',
        'updated_at', day + interval '15 hours'
    )
from generate_series(timestamptz '2017-12-01 00:00+00', '2017-12-29 00:00+00', '1 day') as day
where extract(isodow from day) <= 5;
