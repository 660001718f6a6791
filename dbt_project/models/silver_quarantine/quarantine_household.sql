{{ config(indexes=[{'columns': ['household_id', 'rule_id'], 'unique': true}]) }}

with ranked as (
    select
        *,
        {{ newest_first('household_id') }} as recency
    from {{ ref('stg_shop__households') }}
),

-- Nothing told is nothing wrong: each of these is null where there is no value.
judged as (
    select
        *,
        {{ email_is_wellformed(standard_email('email')) }} as email_is_wellformed,
        case when {{ trimmed('phone') }} <> '' then {{ e164('phone') }} is not null end as phone_is_number,
        pg_input_is_valid(preferences ->> 'newsletter', 'boolean') as newsletter_is_boolean,
        case
            when num_nonnulls(latitude, longitude) > 0
                then
                    num_nulls(latitude, longitude) = 0
                    and abs(latitude) <= 90
                    and abs(longitude) <= 180
                    -- Where forms and geocoders put what they could not find.
                    and not (latitude = 0 and longitude = 0)
        end as place_is_possible
    from ranked
    where recency = 1
)

select
    judged.household_id,
    judgements.rule_id,
    judgements.rule,
    to_jsonb(judged)
    - array['recency', 'email_is_wellformed', 'phone_is_number', 'newsletter_is_boolean', 'place_is_possible']
        as row_data,
    judged._extracted_at,
    judged._batch_id as _loaded_batch_id
from judged
cross join lateral {{ judgements('household') }}
where judgements.is_broken
