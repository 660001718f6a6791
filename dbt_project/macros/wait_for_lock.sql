{#
  DDL that needs a table which readers use, without making others queue behind it for long.

  A statement that waits for an exclusive lock makes every reader that comes later wait as well. So it waits briefly, from
  0.1 s, doubled up to 1.6 s (autovacuum makes way after 1 s), and lets readers pass for two to four times as long before
  it tries again. While a transaction is idle there is nothing to wait for: then it stays at 0.1 s. What the model's
  transaction has done so far stays. After MEDALLION_BUILD_LOCK_WAIT_SECONDS it fails
  and names the sessions that use the table; flows/models/lock_waits.py reads that message.

  Nobody else uses a temporary table or the schemas of a pull request, and the role of reviews may not run DO
  (infra/local/roles_guard.sql).
#}
{% macro wait_for_lock(relation, ddl) -%}
    {%- if not relation.schema or relation.schema.startswith('pr_') -%}
    {{ ddl }}
    {%- else -%}
    do $wait$
    declare
        began constant timestamptz := clock_timestamp();
        wait_seconds constant float8 := {{ env_var('MEDALLION_BUILD_LOCK_WAIT_SECONDS', '90') | float }};
        former constant text := current_setting('lock_timeout');
        patience_ms integer := 100;
        is_idle boolean;
        sessions text;
    begin
        loop
            begin
                perform set_config('lock_timeout', patience_ms || 'ms', true);
                execute $ddl${{ ddl }}$ddl$;
                perform set_config('lock_timeout', former, true);
                exit;
            exception when lock_not_available or deadlock_detected then
                select
                    bool_or(a.state like 'idle in transaction%'),
                    string_agg(distinct format(
                        'session %s of %s (%s) with %s since %s%s',
                        a.pid,
                        coalesce(a.usename, a.backend_type, 'the server'),
                        a.application_name,
                        k.mode,
                        coalesce(
                            to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                            'before ' || to_char(began at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
                        ),
                        case when a.state like 'idle in transaction%' then ', idle in transaction' end
                    ), '; ')
                into is_idle, sessions
                from pg_locks as k
                inner join pg_stat_activity as a on k.pid = a.pid
                where
                    k.granted
                    and k.pid <> pg_backend_pid()
                    and k.database = (select oid from pg_database where datname = current_database())
                    and (
                        k.relation = to_regclass('{{ relation }}')
                        or k.relation in (select relid from pg_partition_tree(to_regclass('{{ relation }}')))
                    );
                if clock_timestamp() >= began + make_interval(secs => wait_seconds) then
                    raise exception using errcode = '55P03', message = format(
                        '%s is in use: %s',
                        '{{ relation.include(database=False) | replace('"', '') }}',
                        coalesce(sessions, 'by sessions that have just ended')
                    );
                end if;
            end;
            perform pg_sleep(patience_ms / 1000.0 * (2 + 2 * random()));
            patience_ms := case when is_idle then 100 else least(2 * patience_ms, 1600) end;
        end loop;
    end
    $wait$
    {%- endif -%}
{%- endmacro %}


{#
  dbt's own macros for DDL on tables that are in use, with that wait.

  dbt renames a relation to `…__dbt_backup` when the one that replaces it is there as `…__dbt_tmp`, and that to the name
  in the same transaction: in between, the new one gets the permissions of the other, so readers never see it without.
#}
{% macro postgres__rename_relation(from_relation, to_relation) -%}
    {%- set name = adapter.quote_as_configured(to_relation.identifier, 'identifier') -%}
    {%- set ddl = 'alter table ' ~ from_relation.render() ~ ' rename to ' ~ name -%}
    {%- if to_relation.identifier.endswith('__dbt_backup') and keeps_permissions(from_relation) -%}
        {%- set new = make_intermediate_relation(from_relation) -%}
        {%- set ddl = ddl ~ '; ' ~ keep_permissions(to_relation.render(), new.render(), from_relation.identifier) -%}
    {%- endif -%}
    {%- call statement('rename_relation') -%}
        {{ wait_for_lock(from_relation, ddl) }}
    {%- endcall -%}
{%- endmacro %}


{#
  Whether others may have been granted something on the relation: not on temporary ones and those of pull requests.
#}
{% macro keeps_permissions(relation) -%}
    {{ return(relation.schema and not relation.schema.startswith('pr_')) }}
{%- endmacro %}


{#
  A seed whose columns have changed is made again; dbt's own macro drops it before.
#}
{% macro postgres__reset_csv_table(model, full_refresh, old_relation, agate_table) -%}
    {%- if not full_refresh or not keeps_permissions(old_relation) -%}
        {{ return(default__reset_csv_table(model, full_refresh, old_relation, agate_table)) }}
    {%- endif -%}
    {%- set former = make_backup_relation(old_relation, old_relation.type) -%}
    {%- do drop_relation_if_exists(load_cached_relation(former)) -%}
    {%- do adapter.rename_relation(old_relation, former) -%}
    {%- set made = create_csv_table(model, agate_table) -%}
    {%- call statement('keep_permissions') -%}
        {{ keep_permissions(former.render(), this.render(), this.identifier) }}
    {%- endcall -%}
    {%- do adapter.drop_relation(former) -%}
    {{ return(made) }}
{%- endmacro %}


{% macro postgres__drop_relation(relation) -%}
    {%- call statement('drop_relation', auto_begin=False) -%}
        {{ wait_for_lock(relation, get_drop_sql(relation)) }}
    {%- endcall -%}
{%- endmacro %}


{% macro postgres__truncate_relation(relation) -%}
    {%- call statement('truncate_relation') -%}
        {{ wait_for_lock(relation, 'truncate table ' ~ relation.render()) }}
    {%- endcall -%}
{%- endmacro %}


{% macro postgres__alter_relation_add_remove_columns(relation, add_columns, remove_columns) -%}
    {%- set changes = [] -%}
    {%- for column in add_columns or [] -%}
        {%- do changes.append('add column ' ~ column.quoted ~ ' ' ~ column.expanded_data_type) -%}
    {%- endfor -%}
    {%- for column in remove_columns or [] -%}
        {%- do changes.append('drop column ' ~ column.quoted) -%}
    {%- endfor -%}
    {%- if changes -%}
        {%- do run_query(wait_for_lock(relation, 'alter table ' ~ relation.render() ~ ' ' ~ changes | join(', '))) -%}
    {%- endif -%}
{%- endmacro %}


{#
  Columns that a snapshot gains.
#}
{% macro postgres__create_columns(relation, columns) -%}
    {%- do postgres__alter_relation_add_remove_columns(relation, columns, none) -%}
{%- endmacro %}
