{{
    config(
        materialized='incremental',
        unique_key='basket_line_id',
        incremental_strategy='delete+insert',
        on_schema_change='fail',
        meta={'reads_clock': 'stamp', 'only_after': ['quality_scores_shop']},
        indexes=[{'columns': ['basket_line_id'], 'unique': true}],
        pre_hook=with_memory(),
        post_hook=[
            "{{ delete_where_found(ref('stg_shop__deleted_basket_items'), 'basket_line_id') }}",
            "{{ delete_where_found(ref('quarantine_basket_line'), 'basket_line_id') }}"
        ]
    )
}}

-- depends_on: {{ ref('quality_scores_shop') }}
-- A rule broken too often stops the build before this.

-- What an incremental run writes is the difference, not "everything after a watermark": a line corrected, arriving
-- late, replayed from the door's quarantine or released from ours is written because it is not held yet, whatever its
-- timestamps say. The hooks take out lines that the shop deleted and lines that were quarantined since.
-- `not materialized`, because a CTE read twice is otherwise written to disk first and read by one process only.
with staged as not materialized (
    select * from {{ ref('stg_shop__basket_items') }}
),

{% if is_incremental() %}
    changed as (
        select staged.basket_line_id
        from staged
        left join {{ this }} as held
            on
                staged.basket_line_id = held.basket_line_id
                and staged._batch_id = held._loaded_batch_id
                and staged._extracted_at = held._extracted_at
        where held.basket_line_id is null
    ),
{% endif %}

ranked as (
    select
        *,
        {{ newest_first('basket_line_id') }} as recency
    from staged
    {% if is_incremental() %}
        where basket_line_id in (select changed.basket_line_id from changed)
    {% endif %}
),

quarantined as (
    select basket_line_id from {{ ref('quarantine_basket_line') }}
),

cleaned as (
    select
        basket_line_id,
        basket_id,
        product_id,
        quantity,
        sales_value::numeric(10, 2) as sales_value,
        coalesce(retail_discount, 0)::numeric(10, 2) as retail_discount,
        coalesce(coupon_discount, 0)::numeric(10, 2) as coupon_discount,
        coalesce(coupon_match_discount, 0)::numeric(10, 2) as coupon_match_discount,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id,
        now() as _transformed_at
    from ranked
    where
        recency = 1
        and not exists (
            select 1 from quarantined
            where quarantined.basket_line_id = ranked.basket_line_id
        )
)

select * from cleaned
