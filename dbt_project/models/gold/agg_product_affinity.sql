{{ config(pre_hook=with_memory()) }}

-- Bounded three ways, so that the table stays small whatever the shop sells: the last days only, categories instead of
-- products, and the strongest partners of each category.
with as_of as (
    select max(sold_on) as day from {{ ref('fct_baskets') }}
),

recent_baskets as (
    select
        baskets.basket_id,
        baskets._extracted_at,
        baskets._loaded_batch_id
    from {{ ref('fct_baskets') }} as baskets
    inner join as_of on baskets.sold_on > as_of.day - {{ var('affinity_days') }}
),

everything as (
    select
        count(*) as baskets,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from recent_baskets
),

categories as (
    select
        product_key,
        product_category,
        -- Numbers join three times as fast as names.
        dense_rank() over (order by product_category)::integer as category_number
    from {{ ref('dim_product') }}
    where product_category <> 'Unknown'
),

-- One row per basket and category in it, however many lines it takes.
bought as materialized (
    select distinct
        basket_lines.basket_id,
        categories.category_number
    from {{ ref('fct_basket_lines') }} as basket_lines
    cross join as_of
    inner join categories on basket_lines.product_key = categories.product_key
    where basket_lines.sold_on > as_of.day - {{ var('affinity_days') }}
),

singles as (
    select
        category_number,
        count(*) as baskets
    from bought
    group by category_number
),

pairs as (
    select
        one.category_number as category,
        partner.category_number as other_category,
        count(*) as baskets
    from bought as one
    inner join bought as partner
        on one.basket_id = partner.basket_id and one.category_number < partner.category_number
    group by one.category_number, partner.category_number
    having count(*) >= {{ var('affinity_minimum_baskets') }}
),

-- What goes with bread also goes the other way round, with a confidence of its own.
both_ways as (
    select
        category,
        other_category,
        baskets
    from pairs
    union all
    select
        other_category,
        category,
        baskets
    from pairs
),

measured as (
    select
        both_ways.category,
        both_ways.other_category,
        both_ways.baskets as baskets_with_both,
        own.baskets as baskets_with_category,
        partners.baskets as baskets_with_other,
        everything.baskets as baskets_in_all,
        both_ways.baskets::numeric / everything.baskets as support,
        both_ways.baskets::numeric / own.baskets as confidence,
        both_ways.baskets::numeric * everything.baskets / (own.baskets * partners.baskets) as lift,
        everything._extracted_at,
        everything._loaded_batch_id
    from both_ways
    inner join singles as own on both_ways.category = own.category_number
    inner join singles as partners on both_ways.other_category = partners.category_number
    cross join everything
),

names as (
    select distinct
        category_number,
        product_category
    from categories
),

ranked as (
    select
        names.product_category,
        other_names.product_category as other_category,
        measured.baskets_with_both::integer as baskets_with_both,
        measured.baskets_with_category::integer as baskets_with_category,
        measured.baskets_with_other::integer as baskets_with_other,
        measured.baskets_in_all::integer as baskets_in_all,
        measured.support::numeric(10, 6) as support,
        measured.confidence::numeric(10, 6) as confidence,
        measured.lift::numeric(12, 4) as lift,
        row_number() over (
            partition by measured.category
            order by measured.lift desc, measured.baskets_with_both desc, other_names.product_category asc
        )::integer as rank_by_lift,
        measured._extracted_at,
        measured._loaded_batch_id
    from measured
    inner join names on measured.category = names.category_number
    inner join names as other_names on measured.other_category = other_names.category_number
)

select * from ranked
where rank_by_lift <= {{ var('affinity_partners') }}
