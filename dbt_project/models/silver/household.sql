-- depends_on: {{ ref('quality_scores') }}
-- A rule broken too often stops the build before this.
with ranked as (
    select
        *,
        {{ newest_first('household_id') }} as recency
    from {{ ref('stg_shop__households') }}
),

-- Which addresses are malformed is said once, in the quarantine.
malformed_emails as (
    select household_id from {{ ref('quarantine_household') }}
    where rule_id = 'HH01'
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
        coalesce({{ safe_cast("ranked.preferences ->> 'newsletter'", 'boolean') }}, false) as wants_newsletter,
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
