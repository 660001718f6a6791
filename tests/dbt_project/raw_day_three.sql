-- The unknown product arrives at last, and the unknown basket does not.
insert into raw_shop.products
values (77777, 1, 'MEAT', 'Private', 'BEEF', 'STEAK', '1 LB', now(), now(), 'shop', 3, null);
