{#
  A partitioned model holds what its source holds, partition by partition: as many rows, brought by the same last load.
  An incremental run looks no further back than `late_data`; this finds what changed before, and the remedy is
  `--full-refresh`.

      data_tests:
        - partitions_hold:
            arguments:
              source: ref('stg_shop__promotions')
              column: week_starts_on
              every: month
#}
{% test partitions_hold(model, source, column, every) %}
    with at_source as (
        select
            date_trunc('{{ every }}', {{ column }}) as begins_on,
            count(*) as rows_at_source,
            max(_batch_id) as last_batch
        from {{ source }}
        group by 1
    ),

    held as (
        select
            date_trunc('{{ every }}', {{ column }}) as begins_on,
            count(*) as rows_held,
            max(_loaded_batch_id) as last_batch
        from {{ model }}
        group by 1
    )

    select
        coalesce(at_source.begins_on, held.begins_on) as begins_on,
        at_source.rows_at_source,
        held.rows_held
    from at_source
    full join held on at_source.begins_on = held.begins_on
    where
        at_source.rows_at_source is distinct from held.rows_held
        or at_source.last_batch is distinct from held.last_batch
{% endtest %}
