{#
  The versions of a snapshot as half-open intervals that cover all time: `version_number`, `effective_at`, `expires_at`.

  Versions are numbered in the order in which the platform learned of them: the open one last, then by the load that
  brought them, where a row marked deleted comes after the row itself. What was learned last counts. A version that
  begins before one already known is a backdated correction: it takes over from its own beginning on, and what it
  corrects keeps its number, so that keys stay what they are, and holds for no moment (effective_at = expires_at). The
  same happens where a clock stepped back between two versions.

      {{ version_intervals(ref('households_snapshot'), 'household_id') }}
#}
{% macro version_intervals(snapshot, key) -%}
    select
        *,
        case when version_number = 1 then {{ beginning_of_time() }} else begins_at end as effective_at,
        coalesce(lead(begins_at) over (partition by {{ key }} order by version_number), {{ end_of_time() }}) as expires_at
    from (
        select
            *,
            row_number() over learned as version_number,
            -- The earliest beginning among this version and those learned after it.
            min(dbt_valid_from) over (learned rows between current row and unbounded following) as begins_at
        from {{ snapshot }}
        window learned as (
            partition by {{ key }}
            order by dbt_valid_to = {{ end_of_time() }}, _batch_id, dbt_is_deleted = 'True', dbt_valid_from
        )
    ) as numbered
{%- endmacro %}
