{{
    config(
        materialized='partitioned',
        partition_by={
            'column': 'week_starts_on',
            'every': 'month',
            'late_data': '2 months',
            'days_from': "{{ ref('stg_shop__promotions') }}"
        },
        indexes=[{'columns': ['promotion_id', 'week_starts_on'], 'unique': true}],
        pre_hook=[with_memory(), prefer_hash_joins()],
        post_hook="{{ gather_statistics() }}",
        meta={'reads_clock': 'stamp', 'also_reads': []}
    )
}}

-- Straight from staging: a silver copy of 21 million rows would clean nothing. A product that is not known yet is the
-- unknown member, and keeps its number; the run that knows it repoints the row, if it is not older than `late_data`.
with promotions as (
    select * from {{ ref('stg_shop__promotions') }}
    {% if holds_partitions() %}
        where week_starts_on >= {{ late_data_from() }}
    {% endif %}
),

products as (
    select
        product_key,
        product_id,
        effective_at,
        expires_at
    from {{ ref('dim_product') }}
),

stores as (
    select
        store_id,
        time_zone
    from {{ ref('store') }}
)

select
    promotions.promotion_id,
    promotions.week_starts_on,
    coalesce(products.product_key, {{ unknown_version() }}) as product_key,
    promotions.product_id,
    coalesce(stores.store_id, {{ unknown_member() }}) as store_id,
    promotions.display_location,
    promotions.mailer_location,
    promotions.display_location <> '0' as is_on_display,
    promotions.mailer_location <> '0' as is_in_mailer,
    promotions._extracted_at,
    promotions._batch_id as _loaded_batch_id
from promotions
left join stores on promotions.store_id = stores.store_id
-- The version that was valid when the week began in the store.
left join products
    on
        promotions.product_id = products.product_id
        and promotions.week_starts_on::timestamp at time zone coalesce(stores.time_zone, 'UTC') >= products.effective_at
        and promotions.week_starts_on::timestamp at time zone coalesce(stores.time_zone, 'UTC') < products.expires_at
