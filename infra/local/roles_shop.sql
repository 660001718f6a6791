-- What each role may do in the demo's source database. Run in that database after roles_demo.sql; running it
-- again changes nothing. For a source of your own, give medallion_extractor the same three grants.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect, temporary on database %I to shop_app', current_database());
    execute format('grant connect on database %I to medallion_extractor', current_database());
end
$$;

revoke all on schema public from public;
grant create, usage on schema public to shop_app;

grant usage on schema public to medallion_extractor;
grant select on all tables in schema public to medallion_extractor;
alter default privileges for role shop_app in schema public grant select on tables to medallion_extractor;
