-- What decides the results of all statements besides their text and their inputs, as a session of dbt has it.
with functions as (
    select
        p.proname,
        p.provolatile,
        -- Made by a build itself, and called by what records it: macros/receipts.
        coalesce(obj_description(p.oid, 'pg_proc'), '') like 'Of receipts: %' as is_of_receipts,
        concat_ws(
            '|', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), p.prosrc, p.probin, p.prosqlbody,
            p.proconfig, p.provolatile, p.proisstrict, p.prorettype::regtype, a.aggtransfn, a.aggfinalfn, a.agginitval
        ) as described
    from pg_proc as p
    inner join pg_namespace as n on p.pronamespace = n.oid
    left join pg_aggregate as a on p.oid = a.aggfnoid
    -- Those of ops serve loads and alerts; no model may call them.
    where n.nspname not in ('pg_catalog', 'information_schema', 'ops') and n.nspname !~ '^pg_(temp|toast)'
        and not exists (
            select
            from pg_depend as d
            where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
        )
)

select
    current_date::text as today,
    -- Local days begin at quarters of an hour, in any time zone.
    floor(extract(epoch from now()) / 900)::bigint::text as quarter,
    (select array_agg(distinct lower(functions.proname)) from functions where functions.provolatile <> 'i') as changeable,
    md5(concat_ws(
        '|',
        (
            select string_agg(functions.described, '|' order by functions.described)
            from functions
            where not functions.is_of_receipts
        ),
        (select string_agg(e.extname || e.extversion, '|' order by e.extname) from pg_extension as e),
        (
            select string_agg(s.name || s.setting, '|' order by s.name)
            from pg_settings as s
            where s.name in (
                'TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'lc_monetary', 'lc_numeric', 'lc_time',
                'bytea_output', 'xmlbinary', 'xmloption', 'default_text_search_config', 'array_nulls',
                'transform_null_equals', 'standard_conforming_strings', 'timezone_abbreviations', 'server_version_num'
            )
        ),
        (
            select concat_ws(
                '|', d.oid, d.encoding, d.datcollate, d.datctype, d.datlocale, pg_database_collation_actual_version(d.oid)
            )
            from pg_database as d
            where d.datname = current_database()
        ),
        (select system_identifier from pg_control_system())
    )) as fingerprint
