{#
  The build stops when a rule is broken by more than its share of a table's rows: a few bad rows are the source's
  everyday, many are a fault that must not be hidden behind a shrinking fact table. Each row is one rule too many.

  Asked of `quality_scores_<source>`, whose newest row of an entity is the table as this build found it. Models behind it wait
  for it by `-- depends_on`, so that the score is kept also of a batch that stops the build.
#}
{% test rules_within_limits(model) %}
    with newest as (
        select distinct on (entity)
            entity,
            source_table,
            table_rows,
            table_refusals
        from {{ model }}
        order by entity asc, scored_at desc, _loaded_batch_id desc
    ),

    limits (rule_id, rule, max_share) as (
        values
        {%- for rule in quality_rules() %}
            ('{{ rule.id }}', '{{ rule.name }}', {{ rule.max_share }}){{ ',' if not loop.last }}
        {%- endfor %}
    )

    select
        newest.source_table,
        limits.rule_id,
        limits.rule,
        refusals.row_count::bigint as rows_refused,
        newest.table_rows,
        limits.max_share
    from newest
    cross join lateral jsonb_each_text(newest.table_refusals) as refusals (rule_id, row_count)
    inner join limits on refusals.rule_id = limits.rule_id
    -- In a small table the share is less than a row or two: the floor counts, up to a quarter of the table.
    where
        refusals.row_count::bigint > greatest(
            newest.table_rows * limits.max_share,
            case when limits.max_share > 0 then least({{ var('rule_floor') }}, newest.table_rows / 4) else 0 end
        )
{% endtest %}
