{#
  The versions of each entity cover all time exactly once: numbered 1, 2, 3 …, the first from the beginning, each
  ending where the next begins, the last one current and open.
#}
{% test versions_hold(model, key) %}
    {{ config(store_failures=true) }}
    with neighbours as (
        select
            {{ key }},
            version_number,
            effective_at,
            expires_at,
            is_current,
            row_number() over (partition by {{ key }} order by version_number) as expected_number,
            lag(expires_at) over (partition by {{ key }} order by version_number) as previous_expiry,
            lead(version_number) over (partition by {{ key }} order by version_number) is null as is_last
        from {{ model }}
    )

    select *
    from neighbours
    where
        version_number <> expected_number
        or effective_at <> coalesce(previous_expiry, {{ beginning_of_time() }})
        or expires_at < effective_at
        or is_current <> is_last
        or (is_last and expires_at <> {{ end_of_time() }})
{% endtest %}
