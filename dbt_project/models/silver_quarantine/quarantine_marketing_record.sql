{%- set endpoints = [
    ('campaign', 'stg_marketing__campaigns', 'campaign_id'),
    ('campaign_target', 'stg_marketing__campaign_targets', 'campaign_target_id'),
    ('coupon', 'stg_marketing__coupons', 'coupon_id'),
] %}
{%- for entity, staged, key in endpoints %}
    select
        '{{ entity }}' as entity,
        judged.{{ key }}::text as record_id,
        judgements.rule_id,
        judgements.rule,
        to_jsonb(judged) as row_data,
        judged._extracted_at,
        judged._batch_id as _loaded_batch_id
    from {{ ref(staged) }} as judged
    cross join lateral {{ judgements(entity) }}
    where judgements.is_broken
    {{ 'union all' if not loop.last }}
{%- endfor %}
