-- The unknown product arrives at last, and the unknown basket does not.
insert into raw_shop.products
values (77777, 1, 'MEAT', 'Private', 'BEEF', 'STEAK', '1 LB', now(), now(), 'shop', 3, null);

-- No, it was since June, and less: a correction backdated to before the change it corrects.
update raw_shop.households
set income_band = '200-249K', updated_at = '2017-06-01 00:00+00', _extracted_at = now(), _batch_id = 3
where household_id = 22;

-- Promotions: a week of July, all of June withdrawn, one of May moved to another place, late.
insert into raw_shop.promotions
values (9000, 25001, 301, '2017-07-02', '9', 'A', now(), now(), 'shop', 3, null);
update raw_shop.promotions set _deleted_at = now()
where week_starts_on between '2017-06-01' and '2017-06-30';
update raw_shop.promotions set display_location = '7', _extracted_at = now(), _batch_id = 3
where promotion_id = 190;
