-- What the snapshot keeps the history of. Contact details stay out: nobody asks what an address used to be, and an
-- erased household must not live on in the history.
with households as (
    select * from {{ ref('stg_shop__households') }}
),

traits as (
    select
        household_id,
        age_band,
        income_band,
        home_ownership,
        marital_status,
        household_size,
        household_composition,
        kids_count,
        updated_at,
        _extracted_at,
        _batch_id
    from households
)

select * from traits
