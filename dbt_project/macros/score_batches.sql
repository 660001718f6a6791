{#
  The scores of the batches of one source. A model for each source, because a source that was never reached must not keep
  the others' scores, nor what waits for them, from being built.

      {{ score_batches('shop', entities=[('basket', 'baskets', 'stg_shop__baskets')], quarantines=[…]) }}

  `entities`: entity, table of the source, staging model. `quarantines`: SQL for the entity, key column, model.
#}
{% macro score_batches(source_system, entities, quarantines) -%}
-- A history: what a batch scored when it was first judged stays, whatever is mended later. So it is never built anew.
with entities (entity, source_system, table_name) as (
    values
    {%- for entity, table_name, model in entities %}
        ('{{ entity }}', '{{ source_system }}', '{{ table_name }}'){{ ',' if not loop.last }}
    {%- endfor %}
),

staged as (
    {%- for entity, table_name, model in entities %}
        select
            '{{ entity }}' as entity,
            _batch_id as batch_id,
            count(*) as row_count,
            max(_extracted_at) as extracted_at
        from {{ ref(model) }}
        group by _batch_id
        {{ 'union all' if not loop.last }}
    {%- endfor %}
),

-- Refused rows, whichever door they stopped at. Rules of the loads have no id; they are called by their name.
refused as (
    select
        entities.entity,
        door.batch_id,
        'door:' || door.rule as rule_id,
        door.quarantine_id::text as row_key,
        true as is_refused_at_door,
        door.quarantined_at as extracted_at
    from {{ source('door', 'rows') }} as door
    inner join entities
        on door.source_system = entities.source_system and door.table_name = entities.table_name
    where door.resolved_at is null
    {%- for entity, key, model in quarantines %}
        union all
        select
            {{ entity }} as entity,
            _loaded_batch_id as batch_id,
            rule_id,
            {{ key }}::text as row_key,
            false as is_refused_at_door,
            _extracted_at as extracted_at
        from {{ ref(model) }}
    {%- endfor %}
),

refused_by_rule as (
    select
        entity,
        batch_id,
        rule_id,
        count(*) as row_count
    from refused
    group by entity, batch_id, rule_id
),

refused_by_batch as (
    select
        entity,
        batch_id,
        count(*) filter (where is_refused_at_door) + count(distinct row_key) filter (where not is_refused_at_door)
            as row_count,
        count(*) filter (where is_refused_at_door) as row_count_at_door,
        max(extracted_at) as extracted_at
    from refused
    group by entity, batch_id
),

by_batch as (
    select
        coalesce(staged.entity, refused_by_batch.entity) as entity,
        coalesce(staged.batch_id, refused_by_batch.batch_id) as batch_id,
        coalesce(staged.row_count, 0) + coalesce(refused_by_batch.row_count_at_door, 0) as row_count,
        coalesce(refused_by_batch.row_count, 0) as refused_count,
        coalesce(staged.extracted_at, refused_by_batch.extracted_at) as extracted_at
    from staged
    full join refused_by_batch
        on staged.entity = refused_by_batch.entity and staged.batch_id = refused_by_batch.batch_id
),

measured as (
    select
        *,
        sum(row_count) over (partition by entity) as table_row_count,
        sum(refused_count) over (partition by entity) as table_refused_count,
        max(batch_id) over (partition by entity) as newest_batch_id
    from by_batch
),

batch_refusals as (
    select
        entity,
        batch_id,
        jsonb_object_agg(rule_id, row_count) as refusals
    from refused_by_rule
    group by entity, batch_id
),

table_refusals as (
    select
        entity,
        jsonb_object_agg(rule_id, row_count) as refusals
    from (
        select
            entity,
            rule_id,
            sum(row_count) as row_count
        from refused_by_rule
        group by entity, rule_id
    ) as by_rule
    group by entity
),

scored as (
    select
        measured.entity,
        entities.source_system || '.' || entities.table_name as source_table,
        measured.row_count as batch_rows,
        measured.refused_count as batch_rows_refused,
        coalesce(batch_refusals.refusals, '{}') as batch_refusals,
        (1 - measured.refused_count::numeric / nullif(measured.row_count, 0))::numeric(7, 6) as batch_score,
        measured.table_row_count::bigint as table_rows,
        measured.table_refused_count::bigint as table_rows_refused,
        coalesce(table_refusals.refusals, '{}') as table_refusals,
        (1 - measured.table_refused_count / nullif(measured.table_row_count, 0))::numeric(7, 6) as table_score,
        measured.batch_id = measured.newest_batch_id as is_newest_batch,
        now() as scored_at,
        measured.extracted_at as _extracted_at,
        measured.batch_id as _loaded_batch_id
    from measured
    inner join entities on measured.entity = entities.entity
    left join batch_refusals on measured.entity = batch_refusals.entity and measured.batch_id = batch_refusals.batch_id
    left join table_refusals on measured.entity = table_refusals.entity
){% if is_incremental() %},

last_scored as (
    select distinct on (entity)
        entity,
        table_rows,
        table_refusals,
        _loaded_batch_id
    from {{ this }}
    order by entity asc, scored_at desc, _loaded_batch_id desc
){% endif %}

select
    scored.scored_at,
    scored.entity,
    scored.source_table,
    scored.batch_rows,
    scored.batch_rows_refused,
    scored.batch_refusals,
    scored.batch_score,
    scored.table_rows,
    scored.table_rows_refused,
    scored.table_refusals,
    scored.table_score,
    scored._extracted_at,
    scored._loaded_batch_id
from scored
{% if is_incremental() -%}
    left join last_scored on scored.entity = last_scored.entity
    where
        last_scored.entity is null
        or scored._loaded_batch_id > last_scored._loaded_batch_id
        -- The table changed without a newer batch: rows were deleted, corrected by an older batch, or released.
        or (
            scored.is_newest_batch
            and (scored.table_rows, scored.table_refusals)
            is distinct from (last_scored.table_rows, last_scored.table_refusals)
        )
{%- endif %}
{%- endmacro %}
