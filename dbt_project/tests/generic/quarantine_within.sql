{#
  The build stops when more than `max_share` of the rows of `of` were quarantined: a few bad rows are the source's
  everyday, many are a fault that must not be hidden behind a shrinking fact table.
#}
{% test quarantine_within(model, of, max_share) %}
    with counted as (
        select
            (select count(*) from {{ model }}) as quarantined_rows,
            (select count(*) from {{ of }}) as all_rows
    )

    select *
    from counted
    where quarantined_rows > all_rows * {{ max_share }}
{% endtest %}
