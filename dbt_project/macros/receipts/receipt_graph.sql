{#
  What a node rests on, from dbt's graph. Views and ephemeral models are read through: they have no rows of their own.
#}
{% macro writes_receipt(unique_id) -%}
    {%- set node = graph.nodes.get(unique_id) -%}
    {{ return(
        node is not none
        and node.resource_type in ['model', 'snapshot']
        and (node.config.materialized not in ['view', 'ephemeral'] or node.schema == receipt_schema())
    ) }}
{%- endmacro %}


{#
  The parents of a node whose rows it reads: not those that it is only built after.
#}
{% macro parents_read(unique_id) -%}
    {%- set node = graph.nodes[unique_id] -%}
    {%- set after = node.config.get('meta', {}).get('only_after', []) -%}
    {%- set found = [] -%}
    {%- for parent in node.depends_on.nodes if parent.split('.')[2] not in after and parent not in found -%}
        {%- do found.append(parent) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{#
  The tables of sources that a node names itself, as `shop.baskets`.
#}
{% macro named_sources(unique_id) -%}
    {%- set found = [] -%}
    {%- for parent in graph.nodes[unique_id].depends_on.nodes if parent.startswith('source.') -%}
        {%- set source_node = graph.sources[parent] -%}
        {%- if source_node.schema.startswith('raw_') -%}
            {%- do found.append(source_node.schema[4:] ~ '.' ~ source_node.identifier) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for name in graph.nodes[unique_id].config.get('meta', {}).get('also_reads') or [] if name.startswith('raw_') -%}
        {%- do found.append(name[4:]) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{#
  `sources`: read directly or through views; `parents`: tables that a build left.
#}
{% macro sources_and_parents(unique_id) -%}
    {%- set found = {'sources': named_sources(unique_id), 'parents': []} -%}
    {%- set waiting = parents_read(unique_id) -%}
    {%- set seen = [] -%}
    {%- for _ in range(1000) if waiting -%}
        {%- set parent = waiting.pop() -%}
        {%- if parent not in seen and parent in graph.nodes -%}
            {%- do seen.append(parent) -%}
            {%- if writes_receipt(parent) -%}
                {%- do found.parents.append(parent) -%}
            {%- elif graph.nodes[parent].resource_type == 'model' -%}
                {%- do found.sources.extend(named_sources(parent)) -%}
                {%- do waiting.extend(parents_read(parent)) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return({'sources': found.sources | unique | sort, 'parents': found.parents | sort}) }}
{%- endmacro %}


{#
  Everything that a node rests on, without the node itself. `built_after`: also what it is only built after.

  Written out instead of by `parents_read`: a call of a macro costs as much as a step of this walk, and each node of a
  build walks up to the sources.
#}
{% macro ancestors_of(unique_id, built_after=false) -%}
    {%- set waiting = [unique_id] -%}
    {%- set seen = {} -%}
    {%- for _ in range(1000) if waiting -%}
        {%- set node = graph.nodes[waiting.pop()] -%}
        {%- set after = [] if built_after else node.config.get('meta', {}).get('only_after', []) -%}
        {%- for parent in node.depends_on.nodes
            if parent not in seen and parent in graph.nodes and parent.split('.')[2] not in after -%}
            {%- do seen.update({parent: true}) -%}
            {%- do waiting.append(parent) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(seen | sort) }}
{%- endmacro %}


{% macro all_sources(unique_id) -%}
    {%- set found = named_sources(unique_id) -%}
    {%- for ancestor in ancestors_of(unique_id) -%}
        {%- set node = graph.nodes[ancestor] -%}
        {%- if 'also_reads' in (node.config.get('meta') or {})
            or node.depends_on.nodes | select('in', graph.sources) | first -%}
            {%- do found.extend(named_sources(ancestor)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found | unique | sort) }}
{%- endmacro %}


{#
  Whether this build reads a node from the shared schemas, as `ref` does.
#}
{% macro is_deferred(unique_id) -%}
    {%- if not invocation_args_dict.get('defer') or unique_id in selected_resources -%}{{ return(false) }}{%- endif -%}
    {%- if invocation_args_dict.get('favor_state') -%}{{ return(true) }}{%- endif -%}
    {%- set node = graph.nodes[unique_id] -%}
    {{ return(load_relation(api.Relation.create(
        database=node.database, schema=node.schema, identifier=node.alias or node.name
    )) is none) }}
{%- endmacro %}


{% macro parent_nodes(unique_id) -%}
    {%- if not is_deferred(unique_id) -%}
        {{ return(receipt_schema() ~ '.receipt_nodes') }}
    {%- elif run_query("select to_regclass('gold.receipt_nodes') is not null").rows[0][0] -%}
        {{ return('gold.receipt_nodes') }}
    {%- endif -%}
    {{ return('(select null::text as node_id, null::jsonb as as_of)') }}
{%- endmacro %}


{% macro parent_relation(unique_id) -%}
    {%- set node = graph.nodes[unique_id] -%}
    {%- set schema = node.schema -%}
    {%- if is_deferred(unique_id) -%}
        {%- set schema = schema[(env_var('MEDALLION_DBT_SCHEMA_PREFIX', '') | length):] -%}
    {%- endif -%}
    {{ return(api.Relation.create(schema=schema, identifier=node.alias or node.name)) }}
{%- endmacro %}


{#
  After how many seconds without a load each source's table is stale: from `freshness` of its declaration.
#}
{% macro stale_after() -%}
    {%- set seconds = {'minute': 60, 'hour': 3600, 'day': 86400} -%}
    {%- set found = {} -%}
    {%- for source_node in graph.sources.values() if source_node.schema.startswith('raw_') -%}
        {%- set limit = (source_node.get('freshness') or {}).get('warn_after') or {} -%}
        {%- if limit.get('count') -%}
            {%- do found.update({
                source_node.schema[4:] ~ '.' ~ source_node.identifier: limit.count * seconds[limit.period | string]
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{% macro text_array(texts) -%}
    array[{% for text in texts %}'{{ text | replace("'", "''") }}'{{ ', ' if not loop.last }}{% endfor %}]::text[]
{%- endmacro %}
