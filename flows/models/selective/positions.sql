-- Of each relation: its shape, and a position of its rows that differs after anything was written, whoever wrote it.
-- Counters of writes reach the statistics when the writing session ends, or a second to ten after its transaction.
with wanted as (
    select *
    from unnest($1::text[], $2::text[]) as wanted (schema_name, relation_name)
),

found as (
    select
        wanted.schema_name,
        wanted.relation_name,
        c.oid,
        c.relkind::text as relation_kind,
        -- A grant, another column, a renamed index: each writes the relation's row of the catalog again.
        concat_ws('.', c.oid, c.xmin, (select max(r.xmin::text) from pg_rewrite as r where r.ev_class = c.oid))
            as shape
    from wanted
    inner join pg_namespace as n on wanted.schema_name = n.nspname
    inner join pg_class as c on n.oid = c.relnamespace and wanted.relation_name = c.relname
),

parts as (
    select
        found.oid as root,
        part.oid,
        concat_ws(
            '.', part.oid, pg_relation_filenode(part.oid),
            pg_stat_get_tuples_inserted(part.oid), pg_stat_get_tuples_updated(part.oid),
            pg_stat_get_tuples_deleted(part.oid)
        ) as position
    from found
    inner join pg_class as part
        on part.oid = found.oid or part.oid in (select relid from pg_partition_tree(found.oid::regclass))
    where found.relation_kind in ('r', 'm', 'p')
)

select
    found.schema_name,
    found.relation_name,
    found.relation_kind,
    found.shape,
    (select md5(string_agg(parts.position, ' ' order by parts.oid)) from parts where parts.root = found.oid) as rows_position
from found
