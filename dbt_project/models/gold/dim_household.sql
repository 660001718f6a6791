{{ config(post_hook="{{ gather_statistics() }}") }}

with versions as (
    select
        *,
        dbt_valid_to = {{ end_of_time() }} as is_open
    from {{ ref('households_snapshot') }}
),

-- The running maximum keeps intervals in order even when the shop's clock stepped back between two versions.
dated as (
    select
        *,
        row_number() over by_age as version_number,
        max(dbt_valid_from) over by_age as begins_at
    from versions
    window by_age as (partition by household_id order by is_open, dbt_valid_from)
),

chained as (
    select
        *,
        case when version_number = 1 then {{ beginning_of_time() }} else begins_at end as effective_at,
        coalesce(
            lead(begins_at) over (partition by household_id order by version_number), {{ end_of_time() }}
        ) as expires_at
    from dated
),

age_bands as (
    select * from {{ ref('age_bands') }}
),

income_bands as (
    select * from {{ ref('income_bands') }}
)

select
    {{ version_key('chained.household_id', 'chained.version_number') }} as household_key,
    chained.household_id,
    chained.version_number::integer as version_number,
    chained.effective_at,
    chained.expires_at,
    chained.expires_at = {{ end_of_time() }} as is_current,
    chained.dbt_is_deleted = 'True' as is_deleted,
    coalesce(chained.age_band, 'Unknown') as age_band,
    age_bands.age_rank,
    coalesce(chained.income_band, 'Unknown') as income_band,
    income_bands.income_rank,
    income_bands.income_from,
    income_bands.income_below,
    coalesce(chained.home_ownership, 'Unknown') as home_ownership,
    coalesce(chained.marital_status, 'Unknown') as marital_status,
    coalesce(chained.household_size, 'Unknown') as household_size,
    coalesce(chained.household_composition, 'Unknown') as household_composition,
    coalesce(chained.kids_count, 'Unknown') as kids_count,
    chained._extracted_at,
    chained._batch_id as _loaded_batch_id
from chained
left join age_bands on chained.age_band = age_bands.age_band
left join income_bands on chained.income_band = income_bands.income_band
