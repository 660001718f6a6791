-- A few hundred rows for the shop database of the tests, in the shapes of the real data: 60 households (12 without
-- demographics), 5 stores, 40 products, 150 baskets over 2017, 450 lines, every (basket, product) once.
-- No randomness: a test may count on any value here.
insert into households
select
    id as household_id,
    'Household ' || id as full_name,
    case id % 5
        when 0 then null
        when 1 then ' Household.' || id || '@EXAMPLE.com '
        else 'household' || id || '@example.com'
    end as email,
    case id % 6
        when 0 then null
        when 1 then '(513) 555-01' || lpad(id::text, 2, '0')
        when 2 then '513.555.01' || lpad(id::text, 2, '0')
        when 3 then '+1 513 555 01' || lpad(id::text, 2, '0')
        when 4 then '51355501' || lpad(id::text, 2, '0')
        else '1-513-555-01' || lpad(id::text, 2, '0') || ' ext. 4'
    end as phone,
    case when id > 12 then (array['19-24', '25-34', '35-44', '45-54', '55-64', '65+'])[1 + id % 6] end as age_band,
    case when id > 12 then (enum_range(null::income_band))[1 + id % 12] end as income_band,
    case when id > 12 then (array['Homeowner', 'Renter', null])[1 + id % 3] end as home_ownership,
    case when id > 12 then (array['Married', 'Unmarried', null])[1 + id % 3] end as marital_status,
    case when id > 12 then (array['1', '2', '3', '4', '5+'])[1 + id % 5] end as household_size,
    case when id > 12 then (array['1 Adult Kids', '2 Adults No Kids', '2 Adults Kids'])[1 + id % 3] end
        as household_comp,
    case when id > 12 then (array['0', '1', '2', '3+', 'Unknown'])[1 + id % 5] end as kids_count,
    jsonb_build_object('newsletter', id % 2 = 0, 'channel', (array['email', 'sms', 'post'])[1 + id % 3],
        'languages', case when id % 10 = 0 then '["en", "es"]'::jsonb else '["en"]'::jsonb end) as preferences,
    timestamptz '2017-01-01 08:00+00' + id * interval '1 hour' as updated_at
from generate_series(1, 60) as id;

insert into stores
select
    300 + id as store_id,
    'Store ' || 300 + id as name,
    date '2017-01-01' + id as first_sale_on,
    timestamptz '2017-01-01 06:00+00' + id * interval '1 day' as updated_at
from generate_series(1, 5) as id;

insert into products
select
    25000 + id as product_id,
    1 + id % 7 as manufacturer_id,
    (array['GROCERY', 'DRUG GM', 'PRODUCE', 'MEAT'])[1 + id % 4] as department,
    (enum_range(null::brand_kind))[1 + id % 2] as brand,
    (array['SOFT DRINKS', 'CHEESE', 'BREAD', null])[1 + id % 4] as product_category,
    'PRODUCT TYPE ' || id % 9 as product_type,
    case when id % 3 = 0 then null else (id % 9 + 1) || ' OZ' end as package_size,
    timestamptz '2017-01-01 06:00+00' as updated_at
from generate_series(1, 40) as id;

-- One basket every 58 hours from January on: the last ones are of December 2017.
insert into baskets
select
    31000000 + id as basket_id,
    1 + id % 60 as household_id,
    301 + id % 5 as store_id,
    sold.at as sold_at,
    1 + (sold.at::date - date '2017-01-01') / 7 as week,
    sold.at as updated_at
from generate_series(1, 150) as id
cross join lateral (select timestamptz '2017-01-01 11:30+00' + id * interval '58 hours' as at) as sold;

insert into basket_items
select
    (basket.basket_id - 31000000) * 10 + line as basket_item_id,
    basket.basket_id,
    25001 + (basket.basket_id + line * 11) % 40 as product_id,
    1 + (basket.basket_id + line) % 4 as quantity,
    round(0.5 + ((basket.basket_id * 7 + line * 13) % 997) / 100.0, 2) as sales_value,
    case when line = 1 then 0.40 else 0 end as retail_disc,
    case when basket.basket_id % 9 = 0 then 0.55 else 0 end as coupon_disc,
    0 as coupon_match_disc,
    basket.updated_at
from baskets as basket
cross join generate_series(1, 3) as line;
