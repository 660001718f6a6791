{{ config(post_hook="{{ gather_statistics() }}") }}

with versions as (
    {{ version_intervals(ref('households_snapshot'), 'household_id') }}
),

age_bands as (
    select * from {{ ref('age_bands') }}
),

income_bands as (
    select * from {{ ref('income_bands') }}
)

select
    {{ version_key('versions.household_id', 'versions.version_number') }} as household_key,
    versions.household_id,
    versions.version_number::integer as version_number,
    versions.effective_at,
    versions.expires_at,
    versions.expires_at = {{ end_of_time() }} as is_current,
    versions.dbt_is_deleted = 'True' as is_deleted,
    coalesce(versions.age_band, 'Unknown') as age_band,
    age_bands.age_rank,
    coalesce(versions.income_band, 'Unknown') as income_band,
    income_bands.income_rank,
    income_bands.income_from,
    income_bands.income_below,
    coalesce(versions.home_ownership, 'Unknown') as home_ownership,
    coalesce(versions.marital_status, 'Unknown') as marital_status,
    coalesce(versions.household_size, 'Unknown') as household_size,
    coalesce(versions.household_composition, 'Unknown') as household_composition,
    coalesce(versions.kids_count, 'Unknown') as kids_count,
    versions._extracted_at,
    versions._batch_id as _loaded_batch_id
from versions
left join age_bands on versions.age_band = age_bands.age_band
left join income_bands on versions.income_band = income_bands.income_band
union all
-- What a sale points at whose household nobody knows.
select
    {{ unknown_version() }} as household_key,
    {{ unknown_member() }} as household_id,
    1 as version_number,
    {{ beginning_of_time() }} as effective_at,
    {{ end_of_time() }} as expires_at,
    true as is_current,
    false as is_deleted,
    'Unknown' as age_band,
    null as age_rank,
    'Unknown' as income_band,
    null as income_rank,
    null as income_from,
    null as income_below,
    'Unknown' as home_ownership,
    'Unknown' as marital_status,
    'Unknown' as household_size,
    'Unknown' as household_composition,
    'Unknown' as kids_count,
    {{ beginning_of_time() }} as _extracted_at,
    0 as _loaded_batch_id
