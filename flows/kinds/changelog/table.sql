-- What the log has of a table ($1) in our publication ($2): one row, none if there is no such table.
select
    c.oid::bigint as id,
    c.relkind::text as kind,
    c.relreplident::text as identity,
    (
        select array_agg(a.attname::text order by a.attnum) from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (
            c.relreplident = 'f' or exists (
                select from pg_index as i
                where i.indrelid = c.oid and a.attnum = any(i.indkey::smallint[])
                    and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
            )
        )
    ) as identified_by,
    -- Made again or altered, it had no changes of the table, or others, for a while.
    (
        select concat_ws('.', o.oid, o.xmin, r.oid, r.xmin) from pg_publication as o
        left join pg_publication_rel as r on r.prpubid = o.oid and r.prrelid = c.oid
        where o.pubname = $2
    ) as publication,
    p.tablename is not null as is_published,
    to_jsonb(p) ->> 'rowfilter' is not null as is_filtered,
    array(select jsonb_array_elements_text(to_jsonb(p) -> 'attnames')) as published,
    (
        select jsonb_object_agg(a.attname, jsonb_build_object(
            'at', a.attnum, 'filled', a.atthasmissing or a.atthasdef or a.attidentity <> '' or a.attgenerated <> ''
        ))
        from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    )::text as columns
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
left join pg_publication_tables as p on p.pubname = $2 and p.schemaname = n.nspname and p.tablename = c.relname
where c.oid = to_regclass($1)
