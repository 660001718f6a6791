{#
  The bounds beyond which a number counts as an outlier: one row, or one for each group of `by`, with `lower_bound` and
  `upper_bound`.

      bounds as ({{ outlier_bounds('baskets', 'sales_value', method='iqr', factor=3) }})

  - `iqr`: Tukey's fences, the quartiles less and plus `factor` times their distance. 1.5 is the usual; 3 marks what is
    far out. It stands firm where outliers are many, since quartiles do not move with them.
  - `z_score`: mean less and plus `factor` standard deviations (of the sample). For values that are about normal.

  Amounts of money lean to the right; with `scale='log'` bounds are found among logarithms and given back as amounts.
  Values not above zero then have none and take no part. A group of fewer than `at_least` values gets no bounds: from a
  handful nothing follows. NaN, infinities and numbers beyond 1e150, of which no sum is left, take no part either. Bounds
  are wider by a billionth, so that values which are all equal are none beyond them.
#}
{% macro outlier_bounds(relation, value, method='iqr', factor=1.5, by=none, scale='linear', at_least=8) -%}
    {%- set number -%}
        {% if scale == 'log' -%}
            case when {{ value }} > 0 and {{ value }} < 1e150 then ln(({{ value }})::double precision) end
        {%- else -%}
            case when {{ value }} > -1e150 and {{ value }} < 1e150 then ({{ value }})::double precision end
        {%- endif %}
    {%- endset -%}
    {%- if method == 'iqr' -%}
        {%- set lower = 'quartile_1 - ' ~ factor ~ ' * (quartile_3 - quartile_1)' -%}
        {%- set upper = 'quartile_3 + ' ~ factor ~ ' * (quartile_3 - quartile_1)' -%}
    {%- elif method == 'z_score' -%}
        {%- set lower = 'mean - ' ~ factor ~ ' * deviation' -%}
        {%- set upper = 'mean + ' ~ factor ~ ' * deviation' -%}
    {%- else -%}
        {{ exceptions.raise_compiler_error("outlier_bounds: method is iqr or z_score, not " ~ method) }}
    {%- endif -%}
    select
        {% if by %}{{ by }},{% endif %}
        {% if scale == 'log' -%}
            case when counted >= {{ at_least }} then exp(greatest({{ lower }}, -700)) * (1 - 1e-9) end as lower_bound,
            case when counted >= {{ at_least }} then exp(least({{ upper }}, 700)) * (1 + 1e-9) end as upper_bound
        {%- else -%}
            case when counted >= {{ at_least }} then {{ lower }} - 1e-9 * abs({{ lower }}) end as lower_bound,
            case when counted >= {{ at_least }} then {{ upper }} + 1e-9 * abs({{ upper }}) end as upper_bound
        {%- endif %}
    from (
        select
            {% if by %}{{ by }},{% endif %}
            count({{ number }}) as counted,
            {% if method == 'iqr' -%}
                percentile_cont(0.25) within group (order by {{ number }}) as quartile_1,
                percentile_cont(0.75) within group (order by {{ number }}) as quartile_3
            {%- else -%}
                avg({{ number }}) as mean,
                stddev_samp({{ number }}) as deviation
            {%- endif %}
        from {{ relation }}
        {% if by %}group by {{ by }}{% endif %}
    ) as spread
{%- endmacro %}


{#
  Whether a value lies beyond its bounds; null, or no bounds, is no outlier.
#}
{% macro is_outlier(value, lower='lower_bound', upper='upper_bound') -%}
    coalesce({{ value }} < {{ lower }} or {{ value }} > {{ upper }}, false)
{%- endmacro %}


{#
  The value, drawn in to the bound it lies beyond. Without bounds it stays as it is. NaN is null: it lies nowhere.
#}
{% macro clipped(value, lower='lower_bound', upper='upper_bound') -%}
    case
        when ({{ value }})::text = 'NaN' then null
        when {{ value }} < {{ lower }} then {{ lower }}
        when {{ value }} > {{ upper }} then {{ upper }}
        else {{ value }}
    end
{%- endmacro %}
