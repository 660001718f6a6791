{%- set ends_in = var('fiscal_year_ends_in_month') %}
-- The retail 4-5-4 calendar: a fiscal year ends on the Saturday nearest to the last day of its closing month (January),
-- so every fiscal week is a whole week from Sunday to Saturday and the same week of two years compares like with like.
-- Most years have 52 weeks; when the Saturdays drift too far, the last month takes a 53rd.
with days as (
    select day::date as date_day
    from generate_series(
        date '{{ var("calendar_from") }}', date '{{ var("calendar_to") }}', interval '1 day'
    ) as calendar (day)
),

closing_years as (
    select *
    from generate_series(
        extract(year from date '{{ var("calendar_from") }}')::integer - 1,
        extract(year from date '{{ var("calendar_to") }}')::integer + 1
    ) as closing (closing_year)
),

-- One row per year in which a fiscal year closes. A Saturday at most three days from the closing month's last day:
-- go three days ahead, then back to the Saturday on or before (dow: Sunday 0 … Saturday 6).
closings as (
    select
        closing_years.closing_year,
        nearest.candidate - ((extract(dow from nearest.candidate)::integer + 1) % 7) as last_day
    from closing_years
    cross join lateral (
        values ((make_date(closing_years.closing_year, {{ ends_in }}, 1) + interval '1 month 2 days')::date)
    ) as nearest (candidate)
),

-- A fiscal year is named after the calendar year it begins in, as retailers do.
fiscal_years as (
    select
        {% if ends_in == 12 %}closing_year{% else %}closing_year - 1{% endif %} as fiscal_year,
        lag(last_day) over (order by closing_year) + 1 as first_day,
        last_day
    from closings
),

weeks as (
    select
        days.date_day,
        fiscal_years.fiscal_year,
        fiscal_years.first_day as fiscal_year_first_day,
        (days.date_day - fiscal_years.first_day) / 7 + 1 as fiscal_week
    from days
    inner join fiscal_years on days.date_day between fiscal_years.first_day and fiscal_years.last_day
),

-- Each quarter has 13 weeks, cut 4-5-4. Week 53 belongs to the last month.
months as (
    select
        *,
        least((fiscal_week - 1) / 13, 3) as quarters_before,
        fiscal_week - least((fiscal_week - 1) / 13, 3) * 13 as week_of_quarter
    from weeks
)

select
    date_day,
    extract(year from date_day)::integer as calendar_year,
    extract(quarter from date_day)::integer as calendar_quarter,
    extract(month from date_day)::integer as calendar_month,
    to_char(date_day, 'FMMonth') as month_name,
    extract(day from date_day)::integer as day_of_month,
    extract(isodow from date_day)::integer as day_of_week,
    to_char(date_day, 'FMDay') as day_name,
    extract(isodow from date_day) >= 6 as is_weekend,
    fiscal_year,
    quarters_before + 1 as fiscal_quarter,
    quarters_before * 3 + case when week_of_quarter <= 4 then 1 when week_of_quarter <= 9 then 2 else 3 end
        as fiscal_month,
    fiscal_week,
    fiscal_year_first_day
from months
