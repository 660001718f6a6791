{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
        full_refresh=false,
        meta={'reads_clock': 'stamp'}
    )
}}

{{ score_batches(
    'marketing',
    entities=[
        ('campaign', 'campaigns', 'stg_marketing__campaigns'),
        ('campaign_target', 'campaign_targets', 'stg_marketing__campaign_targets'),
        ('coupon', 'coupons', 'stg_marketing__coupons'),
        ('redemption', 'redemptions', 'stg_marketing__redemptions'),
    ],
    quarantines=[
        ("'redemption'", 'redemption_id', 'quarantine_redemption'),
        ("entity", 'record_id', 'quarantine_marketing_record'),
    ]
) }}
