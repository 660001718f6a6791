-- Of each relation: its shape, and a position of its rows that differs after anything was written, whoever wrote it.
-- Counters of writes reach the statistics when the writing session ends, or a second to ten after its transaction.
-- $3: the relations are inputs. A view then stands for all that it reads, and what only its owner cares for, such as
-- indexes, is left out.
with recursive wanted as (
    select *
    from unnest($1::text[], $2::text[]) as wanted (schema_name, relation_name)
),

found as (
    select wanted.schema_name, wanted.relation_name, c.oid, c.relkind::text as relation_kind,
        concat_ws(
            '.', c.oid, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, array_to_string(c.reloptions, ','),
            case when not $3 then c.relowner || array_to_string(coalesce(c.relacl, acldefault('r', c.relowner)), ',') end
        ) as described
    from wanted
    inner join pg_namespace as n on wanted.schema_name = n.nspname
    inner join pg_class as c on n.oid = c.relnamespace and wanted.relation_name = c.relname
),

-- What a query of the relation reads: partitions, heirs, and what views are made of.
part_oids as (
    select oid as root, oid from found
    union
    select part_oids.root, below.oid
    from part_oids
    cross join lateral (
        select i.inhrelid as oid from pg_inherits as i where i.inhparent = part_oids.oid
        union all
        select d.refobjid
        from pg_class as v
        inner join pg_rewrite as r on v.oid = r.ev_class
        inner join pg_depend as d on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
        where $3 and v.oid = part_oids.oid and v.relkind = 'v' and d.refclassid = 'pg_class'::regclass
            and d.refobjid <> v.oid
    ) as below
),

parts as (
    select
        part_oids.root,
        c.oid,
        c.relkind,
        c.oid <> part_oids.root as is_below,
        array[n.nspname::text, c.relname::text] as name,
        c.relrowsecurity,
        (select max(r.xmin::text) from pg_rewrite as r where r.ev_class = c.oid) as rule,
        (
            select md5(string_agg(concat_ws(
                ' ', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation,
                case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end,
                case when not $3 then a.attacl end,
                (
                    select string_agg(e.enumlabel, '/' order by e.enumsortorder)
                    from pg_enum as e
                    where e.enumtypid in (a.atttypid, t.typelem, t.typbasetype)
                )
            ), ',' order by a.attnum))
            from pg_attribute as a
            inner join pg_type as t on a.atttypid = t.oid
            left join pg_attrdef as d on a.attrelid = d.adrelid and a.attnum = d.adnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ) as columns
    from part_oids
    inner join pg_class as c on part_oids.oid = c.oid
    inner join pg_namespace as n on c.relnamespace = n.oid
),

-- Whether counters tell of every write: of foreign tables, of rows that policies hide, and of functions they do not.
followed as (
    select
        parts.root,
        md5(string_agg(concat_ws(
            '.', parts.oid, pg_relation_filenode(parts.oid), pg_stat_get_tuples_inserted(parts.oid),
            pg_stat_get_tuples_updated(parts.oid), pg_stat_get_tuples_deleted(parts.oid),
            case when parts.is_below then parts.columns || coalesce(parts.rule, '') end
        ), ' ' order by parts.oid)) as position,
        bool_and(
            parts.relkind in ('r', 'm', 'p', 'v')
            and not case when parts.is_below then parts.relrowsecurity else row_security_active(parts.oid) end
            and not exists (
                select
                from pg_rewrite as r
                inner join pg_depend as d on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
                inner join pg_proc as p on d.refobjid = p.oid and d.refclassid = 'pg_proc'::regclass
                where $3 and r.ev_class = parts.oid and p.provolatile <> 'i'
            )
        ) and current_setting('track_counts')::boolean as is_known,
        array_agg(parts.name) filter (where parts.relkind = 'r' and parts.is_below) as tables_below,
        array_agg(pg_get_viewdef(parts.oid)) filter (where $3 and parts.relkind = 'v') as definitions
    from parts
    group by parts.root
)

select
    found.schema_name,
    found.relation_name,
    found.relation_kind,
    -- Contents of the catalog and not the writer of its row: a grant that is given again, as provisioning does, changes
    -- nothing. Replacing a view writes its rule, and renaming a column changes only `columns`.
    concat_ws('.', found.described, parts.rule, parts.columns, case when not $3 then md5(concat(
        (
            select string_agg(
                concat_ws(' ', i.indkey, i.indisunique, i.indisvalid, i.indexprs, i.indpred), ','
                order by i.indkey::text, i.indisunique, i.indisvalid, i.indexprs::text, i.indpred::text
            )
            from pg_index as i
            where i.indrelid = found.oid
        ),
        (
            select string_agg(concat_ws(' ', k.contype, k.conkey, k.conbin), ',' order by k.contype, k.conkey, k.conbin::text)
            from pg_constraint as k
            where k.conrelid = found.oid
        )
    )) end) as shape,
    case
        when not followed.is_known then null
        when found.relation_kind = 'v' and not $3 then ''
        -- After statistics were reset, by hand or by a crash, counters may reach the same numbers again.
        else concat_ws('.', followed.position, (
            select extract(epoch from pg_stat_get_db_stat_reset_time(d.oid))
            from pg_database as d
            where d.datname = current_database()
        ))
    end as rows_position,
    followed.tables_below,
    followed.definitions
from found
inner join followed on found.oid = followed.root
inner join parts on found.oid = parts.root and found.oid = parts.oid
