-- What `medallion dashboard` may read. Run in the warehouse after roles_warehouse.sql, by who ran that; running it again
-- changes nothing. It writes nothing: what people do on its pages is done as the loader, by the functions of the command
-- line.
do $$
begin
    execute format('grant connect on database %I to medallion_dashboard', current_database());
end
$$;

-- Gold, as readers see it; once, as for readers.
do $$
begin
    if not has_schema_privilege('medallion_dashboard', 'gold', 'usage') then
        grant usage on schema gold to medallion_dashboard;
        grant select on all tables in schema gold to medallion_dashboard;
        alter default privileges for role medallion_transformer in schema gold
        grant select on tables to medallion_dashboard;
    end if;
end
$$;

-- Of operations, what schema.sql lists there: that of a warehouse made later does the same.
do $$
begin
    if to_regprocedure('ops.let_dashboard_read()') is not null then
        perform ops.let_dashboard_read();
    end if;
end
$$;
