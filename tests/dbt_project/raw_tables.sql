-- Raw as the loads leave it: the source's columns and types, then the metadata columns. The defaults stand for the
-- loader, which writes them itself.
create schema raw_shop;
create schema raw_marketing;
create schema raw_currency;
set search_path = raw_shop;

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
    updated_at timestamptz not null,
    latitude numeric(8, 5),
    longitude numeric(8, 5)
);
create table household_events (
    event_id bigint primary key,
    household_id bigint not null,
    kind text not null,
    details jsonb not null,
    occurred_at timestamptz not null
);
create table stores (
    store_id bigint primary key,
    name text not null,
    first_sale_on date,
    updated_at timestamptz not null,
    region text,
    latitude numeric(8, 5),
    longitude numeric(8, 5)
);
create table products (
    product_id bigint primary key,
    manufacturer_id bigint,
    department text,
    brand brand_kind,
    product_category text,
    product_type text,
    package_size text,
    updated_at timestamptz not null
);
create table baskets (
    basket_id bigint primary key,
    household_id bigint not null,
    store_id bigint not null,
    sold_at timestamptz not null,
    week smallint,
    updated_at timestamptz not null
);
create table basket_items (
    basket_item_id bigint primary key,
    basket_id bigint not null,
    product_id bigint not null,
    quantity integer not null,
    sales_value numeric(10, 2) not null,
    retail_disc numeric(10, 2),
    coupon_disc numeric(10, 2),
    coupon_match_disc numeric(10, 2),
    updated_at timestamptz not null
);

set search_path = raw_marketing;
create table campaigns (id bigint primary key, updated_at timestamptz not null, payload jsonb not null);
create table campaign_targets (id text primary key, updated_at timestamptz not null, payload jsonb not null);
create table coupons (id text primary key, updated_at timestamptz not null, payload jsonb not null);
create table redemptions (id bigint primary key, updated_at timestamptz not null, payload jsonb not null);

set search_path = raw_currency;
create table exchange_rates (id text primary key, updated_at timestamptz not null, payload jsonb not null);

do $$
declare
    raw record;
begin
    for raw in
        select schemaname, tablename from pg_tables where schemaname in ('raw_shop', 'raw_marketing', 'raw_currency')
    loop
        execute format(
            'alter table %I.%I
                add _extracted_at timestamptz not null default now(),
                add _source_system text not null default %L,
                add _batch_id bigint not null default 1,
                add _deleted_at timestamptz',
            raw.schemaname, raw.tablename, substr(raw.schemaname, 5)
        );
    end loop;
end
$$;
