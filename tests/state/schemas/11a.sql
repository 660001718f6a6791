-- Operations: what ran, what it loaded, where the next read begins. Idempotent; applied by the loader.
-- A change here needs the next version at the end and in ledger.py, and statements in upgrade.sql for warehouses created
-- before it: `create table if not exists` skips a table that exists.
create schema if not exists ops;
create schema if not exists quarantine;
create schema if not exists landing;

-- The reviewer may read the loader's new schemas (infra/local/roles_reviewer.sql), but not those of operations.
do $$
begin
    if
        exists (select from pg_catalog.pg_roles where rolname = 'medallion_reviewer')
        and pg_catalog.has_schema_privilege('medallion_reviewer', 'ops', 'usage')
    then
        revoke all on schema ops, landing from medallion_reviewer;
    end if;
end
$$;

create table if not exists ops.schema_version (
    version integer primary key,
    applied_at timestamptz not null default now()
);

create table if not exists ops.runs (
    run_id bigint generated always as identity primary key,
    pipeline text not null,
    scope text not null default '',
    flow_run_id text,
    correlation_id text,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status text not null default 'running' check (
        status in ('running', 'done', 'failed', 'refused', 'rescheduled')
    ),
    error_id text,
    details jsonb
);
comment on table ops.runs is 'One row per run of a pipeline.';

create table if not exists ops.loads (
    batch_id bigint generated always as identity primary key,
    run_id bigint references ops.runs (run_id),
    source_system text not null,
    table_name text not null,
    strategy text not null,
    window_lower text,
    window_upper text,
    -- rescheduled: an API requested a longer wait than a run allows. The load resumes later, from the place it reached.
    status text not null default 'running' check (
        status in ('running', 'published', 'failed', 'refused', 'rescheduled')
    ),
    volume text,
    rows_read bigint,
    rows_inserted bigint,
    rows_updated bigint,
    rows_unchanged bigint,
    rows_deduplicated bigint,
    rows_quarantined bigint,
    rows_deleted bigint,
    bytes bigint,
    source_rows bigint,
    raw_rows bigint,
    quarantine_rows bigint,
    reconciliation text check (
        reconciliation in ('match', 'missing', 'extra', 'duplicate', 'not_compared', 'incomplete', 'limited')
    ),
    missing_rows bigint,
    extra_rows bigint,
    duplicate_rows bigint,
    key_difference numeric,
    error_id text,
    error text,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    -- A load commits only if every row read is accounted for.
    -- A missing count would make the comparison null, which a check constraint accepts.
    constraint every_row_is_accounted_for check (
        status <> 'published'
        or coalesce(
            rows_read = rows_inserted + rows_updated + rows_unchanged + rows_deduplicated + rows_quarantined, false
        )
    )
);
comment on column ops.loads.quarantine_rows is 'Source rows that are only in quarantine: source_rows = raw_rows + quarantine_rows when reconciliation is match.';
comment on column ops.loads.key_difference is 'Fingerprint of the keys in raw and quarantine minus that of the source''s keys: if it is that of the last load, nothing else differs than did then. missing_rows, extra_rows, duplicate_rows: keys compared one by one.';
comment on table ops.loads is 'One row per load of one table: window, counts, status. Commits with the rows it counts.';
create index if not exists loads_by_table on ops.loads (source_system, table_name, batch_id desc);
create index if not exists loads_by_run on ops.loads (run_id);

create table if not exists ops.reads (
    batch_id bigint primary key references ops.loads (batch_id),
    attempt integer not null default 1,
    strategy text not null,
    grid jsonb not null,
    read_window jsonb not null,
    landing oid not null,
    opened_at timestamptz not null default clock_timestamp()
);
comment on table ops.reads is
'One row per read in chunks: its chunks, and what it will publish. A new attempt at the same batch resumes from the committed chunks; only workers of the newest attempt may commit more.';

create table if not exists ops.chunks (
    batch_id bigint not null references ops.loads (batch_id),
    lower_step bigint not null,
    upper_step bigint not null,
    attempt integer not null,
    rows bigint not null,
    bytes bigint not null,
    seconds double precision not null,
    memory_bytes bigint not null,
    size_bytes bigint not null,
    size_reason text not null,
    worker text not null,
    committed_at timestamptz not null default clock_timestamp(),
    written_by text,
    primary key (batch_id, lower_step)
);
comment on column ops.chunks.written_by is 'The transaction that wrote the chunk''s rows: their xmin in the landing table. By it each chunk''s rows are counted before they are published.';
comment on table ops.chunks is
'One row per chunk, committed with its rows: its part of the read, its cost (memory_bytes: growth of the process''s peak memory), its target size and the reason, and the process that read it (host:pid).';

create table if not exists ops.backfills (
    backfill_id bigint generated always as identity primary key,
    source_system text not null,
    table_name text not null,
    column_name text not null,
    every text not null,
    first_day date not null,
    last_day date not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
comment on table ops.backfills is 'One row per backfill; without finished_at it is running or can be resumed.';
create table if not exists ops.backfill_partitions (
    backfill_id bigint not null references ops.backfills (backfill_id),
    lower_bound date not null,
    upper_bound date not null,
    batch_id bigint not null,
    committed_at timestamptz not null default clock_timestamp(),
    primary key (backfill_id, lower_bound)
);
comment on table ops.backfill_partitions is 'One row per completed partition, committed with its rows; upper_bound is exclusive.';

create table if not exists ops.reload_requests (
    request_id bigint generated always as identity primary key,
    source_system text not null,
    table_name text not null,
    requested_by text not null,
    requested_at timestamptz not null default clock_timestamp()
);
comment on table ops.reload_requests is
'One row per `medallion reload` of a table: the first load that begins after it reads all rows.';
create index if not exists reload_requests_by_table on ops.reload_requests (source_system, table_name, requested_at desc);

create table if not exists ops.cursors (
    source_system text not null,
    table_name text not null,
    cursor_value text,
    cursor_key text,
    pending_value text,
    pending_at timestamptz,
    batch_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    identity jsonb,
    primary key (source_system, table_name)
);
comment on table ops.cursors is
'One row per table loaded by cursor: everything below cursor_value is in raw, quarantine or tombstones. pending_value becomes safe once no transaction older than pending_at is open at the source.';
comment on column ops.cursors.identity is
'What the cursor belongs to: the declared cursor with its column''s type, the source''s server, database and table, its columns, and the newest position and clock seen. Null: saved before version 11.';

create table if not exists ops.dlt_states (
    source_system text not null,
    table_name text not null,
    state json not null,
    batch_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (source_system, table_name)
);
comment on table ops.dlt_states is
'One row per table loaded by dlt: the state of its resource, as dlt writes it. Commits with its rows; ignored if the raw table does not exist.';

create table if not exists ops.schema_changes (
    change_id bigint generated always as identity primary key,
    batch_id bigint not null,
    source_system text not null,
    table_name text not null,
    column_name text not null,
    change text not null check (change in ('added', 'dropped', 'returned', 'retyped', 'label added')),
    old_type text,
    new_type text,
    changed_at timestamptz not null default clock_timestamp(),
    applied boolean not null default true,
    announced boolean not null default false
);
comment on table ops.schema_changes is 'One row per change of a source table''s shape: applied to raw, or (not applied) refused or held back. announced: an event was sent.';

create table if not exists ops.errors (
    error_id text primary key,
    run_id bigint,
    batch_id bigint,
    failure_class text not null,
    severity text not null,
    strategy text not null,
    location text not null,
    what text not null,
    fix text not null,
    retryable boolean not null,
    occurred_at timestamptz not null default clock_timestamp()
);
comment on table ops.errors is 'One row per error. Contains no values of rows and no secrets.';

create table if not exists ops.check_results (
    run_id bigint not null references ops.runs (run_id),
    gate text not null,
    dataset text not null,
    check_name text not null,
    column_name text,
    outcome text not null,
    measured text,
    message text,
    checked_at timestamptz not null default clock_timestamp()
);
comment on table ops.check_results is 'One row per check of a quality gate in a run.';
create index if not exists check_results_by_run on ops.check_results (run_id);

create table if not exists ops.reconciliations (
    reconciliation_id bigint generated always as identity primary key,
    run_id bigint references ops.runs (run_id),
    source_system text not null,
    table_name text not null,
    method text not null check (method in ('content', 'content without key', 'count')),
    result text not null check (
        result in ('match', 'different', 'not_compared')
    ),
    source_rows bigint,
    raw_rows bigint,
    buckets bigint not null,
    drilled bigint not null,
    missing bigint not null,
    extra bigint not null,
    different bigint not null,
    duplicate bigint not null default 0,
    quarantined bigint not null,
    pending bigint not null,
    repaired bigint not null,
    seconds double precision not null,
    note text,
    keys jsonb not null,
    reconciled_at timestamptz not null default clock_timestamp()
);
comment on table ops.reconciliations is 'One row per comparison of a table''s content at the source and in raw. keys has sample keys per kind of difference.';
create index if not exists reconciliations_by_table
on ops.reconciliations (source_system, table_name, reconciliation_id desc);

create table if not exists quarantine.rows (
    quarantine_id bigint generated always as identity primary key,
    batch_id bigint not null,
    source_system text not null,
    table_name text not null,
    row_key jsonb,
    rule text not null,
    row_data jsonb not null,
    row_hash text not null,
    quarantined_at timestamptz not null default clock_timestamp(),
    resolved_at timestamptz,
    resolution text
);
comment on table quarantine.rows is 'One row per version of a source row that failed a row check on load: the full row and the name of the rule.';
create index if not exists rows_open_by_table on quarantine.rows (source_system, table_name, row_key)
where resolved_at is null;
-- An overlapping read finds the same bad row again: it is stored once.
create unique index if not exists rows_open_once on quarantine.rows (source_system, table_name, rule, row_hash)
where resolved_at is null;

create table if not exists ops.list_reads (
    source_system text not null,
    table_name text not null,
    declared text not null,
    since text,
    etag text,
    place jsonb,
    reached text,
    ceiling text,
    batch_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    gathered jsonb,
    primary key (source_system, table_name)
);
comment on table ops.list_reads is
'One row per endpoint of an API. While its list is being read: place, the position to resume from; since, the requested lower bound; reached, the latest cursor seen; ceiling, the API''s clock at the start of the list, which the cursor must not pass; gathered, what has landed up to place and is not published. Afterwards: etag of the full list. Contains no credentials.';

create table if not exists ops.record_fields (
    source_system text not null,
    table_name text not null,
    field text not null,
    kinds text [] not null,
    batch_id bigint not null,
    primary key (source_system, table_name, field)
);
comment on table ops.record_fields is
'One row per top-level field that an endpoint''s records have had: the types of its values, and the load that last added one. Changes are in ops.schema_changes.';

create table if not exists ops.circuits (
    source_system text primary key,
    state text not null default 'closed' check (state in ('closed', 'open', 'half-open')),
    failures integer not null default 0,
    openings integer not null default 0,
    retry_at timestamptz,
    what text,
    changed_at timestamptz not null default clock_timestamp()
);
comment on table ops.circuits is
'One row per source that has ever failed: closed, requests are sent; open, no requests before retry_at; half-open, one load tests it. failures counts consecutive failed loads, openings counts how often it opened since the last success.';

create table if not exists ops.dbt_manifests (
    run_id bigint primary key references ops.runs (run_id),
    manifest bytea not null
);
comment on table ops.dbt_manifests is
'One row per full build of the models into the shared schemas, the last ten: dbt''s manifest.json, gzipped. Private builds and pull requests compare with the newest and defer to it.';
-- It is compressed already.
alter table ops.dbt_manifests alter column manifest set storage external;

create table if not exists ops.releases (
    release_id bigint generated always as identity primary key,
    run_id bigint references ops.runs (run_id),
    models text not null,
    commit_sha text,
    replaced_run_id bigint references ops.runs (run_id),
    changes jsonb not null,
    judged_at timestamptz not null default clock_timestamp(),
    released_at timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text
);
comment on table ops.releases is
'One row per release of the models that passed its gates: models, the fingerprint of the dbt project; replaced_run_id, the full build that readers had before; changes, the differences. The comment of schema gold has the current release. Withdrawn models are not built into the shared schemas again.';

create table if not exists ops.promotions (
    promotion_id bigint generated always as identity primary key,
    environment text not null,
    promoted_from text not null,
    outcome text not null check (outcome in ('promoted', 'refused')),
    commit_sha text not null,
    models text not null,
    approved_by text,
    promoted_by text not null,
    gates jsonb not null,
    promoted_at timestamptz not null default clock_timestamp()
);
comment on table ops.promotions is
'One row per attempt to promote a commit into this environment: who requested it, who approved it, and each gate with its outcome and evidence.';

create table if not exists ops.erasures (
    event_id bigint generated always as identity primary key,
    subject text not null,
    key_hash text not null,
    event text not null check (event in ('began', 'deleted', 'finished', 'incomplete', 'returned')),
    rows jsonb not null,
    by_role text not null default session_user,
    occurred_at timestamptz not null default clock_timestamp()
);
comment on table ops.erasures is
'One row per step of an erasure: rows counted per table, the subject only as a keyed hash. Append-only.';
create index if not exists erasures_by_subject on ops.erasures (subject, key_hash);
create or replace function ops.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog as $$
begin
    raise exception 'rows of %.% are only added', tg_table_schema, tg_table_name using errcode = '42501';
end
$$;
create or replace trigger only_added before update or delete or truncate on ops.erasures
for each statement execute function ops.refuse_change();

create table if not exists ops.retentions (
    retention_id bigint generated always as identity primary key,
    place text not null,
    older_than timestamptz not null,
    rows bigint not null,
    retained_at timestamptz not null default clock_timestamp()
);
comment on table ops.retentions is 'One row per place where `medallion purge` deleted data past its retention period: the number of rows, and the cut-off time.';

-- Locks of loads and of the transform. Advisory locks alone are not enough: every role that may connect can take any key.
-- So each lock gets a new random key, valid only for the session in this table, which only the loader writes.
create table if not exists ops.locks (
    name text primary key,
    key bigint not null,
    pid integer not null,
    account oid not null,
    taken_at timestamptz not null default clock_timestamp()
);
comment on table ops.locks is
'One row per lock ever taken: `shop.baskets` for loads of a table, `transform`. It is held while the session of that process id and account holds the advisory lock of that key, so the server releases it when the session ends.';

create or replace function ops.is_held(key bigint, pid integer, account oid) returns boolean
language sql set search_path = pg_catalog as $$
    select exists (
        select
        from pg_locks as k
        inner join pg_stat_get_activity($2) as a on a.pid = k.pid
        where
            k.locktype = 'advisory'
            and k.granted
            and k.pid = $2
            and a.usesysid = $3
            and k.database = (select d.oid from pg_database as d where d.datname = current_database())
            and k.classid = (($1 >> 32) & 4294967295)::oid
            and k.objid = ($1 & 4294967295)::oid
            and k.objsubid = 1
    )
$$;

create or replace function ops.take_lock(wanted text) returns boolean
language plpgsql set search_path = pg_catalog as $$
declare
    drawn bigint;
    taken boolean;
begin
    -- An upgrade of this schema locks the table, so that no other lock is taken.
    lock table ops.locks in row exclusive mode nowait;
    loop
        drawn := hashtextextended(gen_random_uuid()::text, 0);
        exit when pg_try_advisory_lock(drawn);
    end loop;
    insert into ops.locks as l (name, key, pid, account)
    select wanted, drawn, a.pid, a.usesysid from pg_stat_get_activity(pg_backend_pid()) as a
    on conflict (name) do update set
        key = excluded.key, pid = excluded.pid, account = excluded.account, taken_at = excluded.taken_at
    where not ops.is_held(l.key, l.pid, l.account);
    taken := found;
    if not taken then
        perform pg_advisory_unlock(drawn);
    end if;
    return taken;
exception
    when lock_not_available or serialization_failure then
        perform pg_advisory_unlock(drawn) where drawn is not null;
        return false;
end
$$;

-- The row is kept: an upgrade that waits for the holder has locked the table.
create or replace function ops.release_lock(held text) returns void
language sql set search_path = pg_catalog as $$
    select pg_advisory_unlock(key) from ops.locks where name = $1 and pid = pg_backend_pid()
$$;

insert into ops.schema_version (version) values (11) on conflict do nothing;
