{{ config(indexes=[{'columns': ['date_day'], 'unique': true}]) }}

with days as (
    select day::date as date_day
    from generate_series(
        date '{{ var("calendar_from") }}', date '{{ var("calendar_to") }}', interval '1 day'
    ) as calendar (day)
),

holidays as (
    select * from {{ ref('holidays') }}
),

marked as (
    select
        days.date_day,
        holidays.holiday_name,
        coalesce(holidays.holiday_kind = 'public', false) as is_public_holiday,
        min(holidays.holiday_on) over (order by days.date_day rows between current row and unbounded following)
        - days.date_day as days_until_holiday,
        days.date_day
        - max(holidays.holiday_on) over (order by days.date_day rows between unbounded preceding and current row)
            as days_since_holiday
    from days
    left join holidays on days.date_day = holidays.holiday_on
)

select * from marked
