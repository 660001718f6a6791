-- The demo shop: the application database that the pipeline reads. Owned by the role the application writes with.
-- Loaded by demo/shop.py from real grocery data; see demo/contacts.py and
-- demo/places.py for the parts that are made up.

create type brand_kind as enum ('National', 'Private');

create type income_band as enum (
    'Under 15K', '15-24K', '25-34K', '35-49K', '50-74K', '75-99K', '100-124K', '125-149K', '150-174K', '175-199K',
    '200-249K', '250K+'
);

create table households (
    household_id bigint primary key,
    full_name text not null,
    email text,
    phone text,
    age_band text,
    income_band income_band,
    home_ownership text,
    marital_status text,
    household_size text,
    household_comp text,
    kids_count text,
    preferences jsonb not null,
    updated_at timestamptz not null default now(),
    latitude numeric(8, 5),
    longitude numeric(8, 5)
);
comment on table households is
'One row per household with a loyalty card. Demographics are null where the household gave none.';

create table household_events (
    event_id bigint generated always as identity primary key,
    household_id bigint not null references households,
    kind text not null,
    details jsonb not null,
    occurred_at timestamptz not null default now()
);
comment on table household_events is
'One row per registration or change of a household, appended by a trigger and never changed. Contact values stay out.';

create table stores (
    store_id bigint primary key,
    name text not null,
    first_sale_on date,
    updated_at timestamptz not null default now(),
    region text,
    latitude numeric(8, 5),
    longitude numeric(8, 5)
);
comment on table stores is 'One row per store that sold something.';

create table products (
    product_id bigint primary key,
    manufacturer_id bigint,
    department text,
    brand brand_kind,
    product_category text,
    product_type text,
    package_size text,
    updated_at timestamptz not null default now()
);
comment on table products is
'One row per product. Those sold but missing from the product file carry department UNKNOWN and nulls.';

create table baskets (
    basket_id bigint primary key,
    household_id bigint not null references households,
    store_id bigint not null references stores,
    sold_at timestamptz not null,
    week smallint,
    updated_at timestamptz not null default now()
);
comment on table baskets is 'One row per purchase at a till. week counts from 1 in the first week of 2017.';
create index baskets_updated_at_idx on baskets (updated_at);

create table basket_items (
    basket_item_id bigint primary key,
    basket_id bigint not null references baskets,
    product_id bigint not null references products,
    quantity integer not null,
    sales_value numeric(10, 2) not null,
    retail_disc numeric(10, 2),
    coupon_disc numeric(10, 2),
    coupon_match_disc numeric(10, 2),
    updated_at timestamptz not null default now()
);
comment on table basket_items is
'One row per product in a basket. sales_value is what the shop received, in US dollars; discounts are positive amounts.';
create index basket_items_basket_id_idx on basket_items (basket_id);
create index basket_items_updated_at_idx on basket_items (updated_at);

-- Comparing whole rows as jsonb keeps the log right when a column is added later. The values of contact fields never
-- enter the log, only the fact that they changed; a change of updated_at alone is no event.
create function log_household_event() returns trigger language plpgsql as $$
declare
    contact constant text[] := array['full_name', 'email', 'phone'];
    before_row jsonb;
    after_row jsonb := to_jsonb(new) - 'updated_at';
    changed text[];
    told text[];
begin
    if tg_op = 'INSERT' then
        insert into household_events (household_id, kind, details, occurred_at)
        values (new.household_id, 'registered', '{}', new.updated_at);
        return null;
    end if;
    before_row := to_jsonb(old) - 'updated_at';
    select
        array_agg(field.key order by field.key),
        array_agg(field.key order by field.key) filter (where field.key <> all (contact))
    into changed, told
    from jsonb_each(after_row) as field
    where field.value is distinct from before_row -> field.key;
    if changed is not null then
        insert into household_events (household_id, kind, details)
        select
            new.household_id,
            'changed',
            jsonb_build_object(
                'fields', to_jsonb(changed),
                'old', coalesce(jsonb_object_agg(field, before_row -> field), '{}'),
                'new', coalesce(jsonb_object_agg(field, after_row -> field), '{}')
            )
        from unnest(told) as field;
    end if;
    return null;
end
$$;

create trigger households_log_event after insert or update on households
for each row execute function log_household_event();
