with ranked as (
    select
        *,
        {{ newest_first('household_id') }} as recency
    from {{ ref('stg_shop__households') }}
),

-- Which addresses are malformed is said once, in the quarantine.
malformed_emails as (
    select household_id from {{ ref('quarantine_household') }}
    where rule = 'malformed_email'
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
        nullif(btrim(ranked.full_name), '') as full_name,
        case when malformed_emails.household_id is null then {{ standard_email('ranked.email') }} end as email,
        {{ e164('ranked.phone') }} as phone,
        coalesce(ranked.age_band, 'Unknown') as age_band,
        age_bands.age_rank,
        coalesce(ranked.income_band, 'Unknown') as income_band,
        income_bands.income_rank,
        income_bands.income_from,
        income_bands.income_below,
        coalesce(ranked.home_ownership, 'Unknown') as home_ownership,
        coalesce(ranked.marital_status, 'Unknown') as marital_status,
        coalesce(ranked.household_size, 'Unknown') as household_size,
        coalesce(ranked.household_composition, 'Unknown') as household_composition,
        coalesce(ranked.kids_count, 'Unknown') as kids_count,
        coalesce((ranked.preferences ->> 'newsletter')::boolean, false) as wants_newsletter,
        ranked.preferences ->> 'channel' as preferred_channel,
        ranked.preferences #>> '{languages,0}' as first_language,
        ranked.updated_at,
        ranked._extracted_at,
        ranked._batch_id as _loaded_batch_id
    from ranked
    left join malformed_emails on ranked.household_id = malformed_emails.household_id
    left join age_bands on ranked.age_band = age_bands.age_band
    left join income_bands on ranked.income_band = income_bands.income_band
    where ranked.recency = 1
)

select * from cleaned
