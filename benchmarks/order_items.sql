-- 15 columns as an order table has them; about 210 bytes a row.
drop table if exists order_items;
create table order_items (
    order_item_id bigint primary key,
    order_id bigint not null,
    product_id integer not null,
    seller_id uuid not null,
    quantity smallint not null,
    unit_price numeric(12, 2) not null,
    discount numeric(12, 4),
    tax_rate double precision not null,
    currency char(3) not null,
    status text not null,
    is_gift boolean not null,
    note text,
    attributes jsonb not null,
    shipped_on date,
    updated_at timestamptz not null
);
insert into order_items
select
    n,
    n / 3,
    ((n * 7919) % 50000)::integer,
    ('00000000-0000-4000-8000-' || lpad(to_hex(n % 9973), 12, '0'))::uuid,
    (n % 9 + 1)::smallint,
    ((n * 37) % 100000)::numeric / 100,
    case when n % 4 = 0 then ((n * 13) % 10000)::numeric / 10000 end,
    (n % 25)::double precision / 100,
    (array['EUR', 'USD', 'GBP', 'CHF'])[n % 4 + 1],
    (array['new', 'paid', 'shipped', 'returned'])[n % 4 + 1],
    n % 11 = 0,
    case when n % 5 = 0 then 'leave at the door, ring twice, number ' || n end,
    jsonb_build_object('color', n % 16, 'size', (array['S', 'M', 'L'])[n % 3 + 1]),
    case when n % 3 > 0 then date '2024-01-01' + (n % 700)::integer end,
    timestamptz '2024-01-01 00:00:00+00' + n * interval '1 second'
from generate_series(1::bigint, {rows}) as n;
create index on order_items (updated_at);
analyze order_items;
