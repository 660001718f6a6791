-- depends_on: {{ ref('quality_scores_shop') }}
-- A rule broken too often stops the build before this.
with ranked as (
    select
        *,
        {{ newest_first('household_id') }} as recency
    from {{ ref('stg_shop__households') }}
),

-- Which values are withheld is said once, in the quarantine.
refused as (
    select
        household_id,
        bool_or(rule_id = 'HH01') as email,
        bool_or(rule_id = 'HH04') as place
    from {{ ref('quarantine_household') }}
    group by household_id
),

age_bands as (
    select * from {{ ref('age_bands') }}
),

income_bands as (
    select * from {{ ref('income_bands') }}
),

cleaned as (
    select
        ranked.household_id,
        nullif({{ trimmed('ranked.full_name') }}, '') as full_name,
        case when refused.email is not true then {{ standard_email('ranked.email') }} end as email,
        {{ e164('ranked.phone') }} as phone,
        {{ null_default('ranked.age_band') }} as age_band,
        age_bands.age_rank,
        {{ null_default('ranked.income_band') }} as income_band,
        income_bands.income_rank,
        income_bands.income_from,
        income_bands.income_below,
        {{ null_default('ranked.home_ownership') }} as home_ownership,
        {{ null_default('ranked.marital_status') }} as marital_status,
        {{ null_default('ranked.household_size') }} as household_size,
        {{ null_default('ranked.household_composition') }} as household_composition,
        {{ null_default('ranked.kids_count') }} as kids_count,
        coalesce({{ cast_or_null("ranked.preferences ->> 'newsletter'", 'boolean') }}, false) as wants_newsletter,
        ranked.preferences ->> 'channel' as preferred_channel,
        ranked.preferences #>> '{languages,0}' as first_language,
        case when refused.place is not true then ranked.latitude end as latitude,
        case when refused.place is not true then ranked.longitude end as longitude,
        ranked.updated_at,
        ranked._extracted_at,
        ranked._batch_id as _loaded_batch_id
    from ranked
    left join refused on ranked.household_id = refused.household_id
    left join age_bands on ranked.age_band = age_bands.age_band
    left join income_bands on ranked.income_band = income_bands.income_band
    where ranked.recency = 1
)

select * from cleaned
