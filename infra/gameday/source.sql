-- The source database of the game. Tables are the application's; the platform's role may read them.
set role shop_app;
create table events (
    event_id bigint generated always as identity primary key,
    note text not null,
    happened_at timestamptz not null default now()
);
-- Accounts 1 to 100 transfer money among each other; the others come and go.
create table accounts (
    account_id bigint primary key,
    holder text not null,
    balance numeric not null,
    updated_at timestamptz not null default now()
);
create index on accounts (updated_at);
-- All prices have one version: they change together.
create table prices (
    price_id bigint primary key,
    version bigint not null,
    amount numeric not null,
    label text not null
);
insert into accounts (account_id, holder, balance)
select n, 'holder ' || n || repeat(' of an account', 20), 1000 from generate_series(1, 100) as n;
insert into accounts (account_id, holder, balance)
select n, 'guest ' || n || repeat(' of an account', 20), 0 from generate_series(1001, 1200) as n;
insert into prices (price_id, version, amount, label)
select n, 0, n, 'price ' || n from generate_series(1, 50) as n;
insert into events (note) select 'event ' || n from generate_series(1, 300) as n;
reset role;
analyze;
