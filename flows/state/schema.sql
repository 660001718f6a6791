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
        status in ('running', 'done', 'failed', 'refused', 'rescheduled', 'stopped')
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
    -- stopped: it reached a budget. What it has is kept, and the next load goes on from there.
    status text not null default 'running' check (
        status in ('running', 'published', 'failed', 'refused', 'rescheduled', 'stopped')
    ),
    stops integer not null default 0,
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
    -- What of the source was not loaded, and why, such as a file that was cut short: raw lacks it, and no count says so.
    skipped text,
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
comment on column ops.loads.stops is 'How often this batch stopped at a budget: a read in chunks resumes under the same batch.';
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
    resolution text,
    resolved_by text,
    reason text,
    released_at timestamptz,
    fix_id bigint,
    seen_batch_id bigint,
    withheld boolean generated always as (
        resolved_at is null
        or (released_at is null and coalesce(resolution in ('fixed by hand', 'discarded'), false))
    ) stored
);
comment on table quarantine.rows is 'One row per version of a source row that failed a row check on load: the full row and the name of the rule.';
comment on column quarantine.rows.withheld is
'The source still has this version, and raw does not have it, as far as loads know. So it is with open rows, and with rows that a person fixed by hand or discarded, until another version arrives.';
comment on column quarantine.rows.released_at is 'Of a row that a person fixed or discarded: when another version arrived, or none did.';
comment on column quarantine.rows.reason is 'Why a person (resolved_by) fixed or discarded the row.';
comment on column quarantine.rows.fix_id is 'The row of quarantine.fixes that raw has instead of this version.';
comment on column quarantine.rows.seen_batch_id is 'Of a row fixed by hand: the last load that read this version again, and put the fixed one in its place.';
create index if not exists rows_withheld_by_table on quarantine.rows (source_system, table_name, row_key)
where withheld;
-- An overlapping read finds the same bad row again: it is stored once.
create unique index if not exists rows_withheld_once on quarantine.rows (source_system, table_name, rule, row_hash)
where withheld;

create table if not exists quarantine.fixes (
    fix_id bigint generated always as identity primary key,
    quarantine_id bigint not null references quarantine.rows (quarantine_id) on delete cascade,
    row_data jsonb not null,
    changed text [] not null,
    reason text not null,
    fixed_by text not null,
    by_role text not null default session_user,
    fixed_at timestamptz not null default clock_timestamp()
);
comment on table quarantine.fixes is
'One row per fix of a quarantined row by hand: the fixed version in full, beside the original, and who, when and why. The newest one is loaded by `medallion quarantine replay`.';
create index if not exists fixes_by_row on quarantine.fixes (quarantine_id, fix_id);

create table if not exists ops.reveals (
    reveal_id bigint generated always as identity primary key,
    place text not null,
    quarantine_ids bigint [] not null,
    rows bigint not null,
    reason text not null,
    revealed_by text not null,
    by_role text not null default session_user,
    revealed_at timestamptz not null default clock_timestamp()
);
comment on table ops.reveals is
'One row per time that a person saw the values of quarantined rows: whose command, which rows, and why. Append-only; an erasure may replace words of the reason by [erased].';

-- Recoveries: what `medallion recover` did, to one table each.
create table if not exists ops.recoveries (
    recovery_id bigint generated always as identity primary key,
    run_id bigint not null references ops.runs (run_id),
    source_system text not null,
    table_name text not null,
    plan text not null,
    outcome text,
    recovered_by text not null,
    by_role text not null default session_user,
    reason text not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
comment on table ops.recoveries is
'One row per table that a person had recovered: the plan that was agreed to, who, why, and how both ends compared at its end. finished_at is null while it runs, and if it was killed: the same command resumes it.';
create index if not exists recoveries_by_table on ops.recoveries (source_system, table_name, recovery_id desc);

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

-- Files, one row per content.

create table if not exists ops.files (
    source_system text not null,
    table_name text not null,
    path text not null,
    content_hash text not null,
    signature text not null,
    size_bytes bigint not null,
    rows_read bigint not null,
    state text not null check (state in ('loaded', 'same content', 'replaced', 'vanished')),
    batch_id bigint not null,
    loaded_at timestamptz not null default clock_timestamp(),
    released_at timestamptz,
    primary key (source_system, table_name, path, content_hash)
);
comment on table ops.files is
'One row per content of a file that was read: its hash (SHA-256), and what became of it. Commits with its rows. loaded: raw has its rows; same content: another path had it first; replaced: the path has another content now; vanished: the file is gone, and its rows were deleted. signature: changes with every write. released_at: archived or deleted after the load.';
create index if not exists files_by_hash on ops.files (source_system, table_name, content_hash);

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

create table if not exists ops.model_builds (
    node_id text primary key,
    project text not null,
    node jsonb not null,
    run_id bigint,
    is_good boolean not null,
    built_at timestamptz,
    fingerprint text not null default '',
    inputs jsonb not null default '{}',
    relation text not null default '',
    position text not null default ''
);
comment on table ops.model_builds is
'One row per node of the dbt project and contract of a gate: the run that built or checked it last, its code, and the positions of its inputs when that began. is_good is false from the moment a build selects it until that build has finished it.';

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
create or replace trigger only_added before delete or truncate or update of
reveal_id, place, quarantine_ids, rows, revealed_by, by_role, revealed_at on ops.reveals
for each statement execute function ops.refuse_change();
create or replace trigger only_erased before update of reason on ops.reveals
for each row when (new.reason not like '%[erased]%') execute function ops.refuse_change();

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

-- Alerts: one row per problem, from its beginning to its end. Triggers raise and resolve them in the transaction of what
-- they are about: no code path can leave one out, and none is raised for what was rolled back. They contain no values.
create table if not exists ops.incidents (
    incident_id bigint generated always as identity primary key,
    opened_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    escalated_at timestamptz,
    severity text not null check (severity in ('info', 'warning', 'error', 'critical')),
    title text not null
);
comment on table ops.incidents is 'One row per root cause that was sent to somebody: its alerts are those with this incident_id.';

create table if not exists ops.silences (
    silence_id bigint generated always as identity primary key,
    pattern text not null,
    until timestamptz not null,
    reason text not null,
    created_by text not null,
    created_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);
comment on table ops.silences is 'One row per silence: alerts whose `name subject` is like the pattern are not sent until then. ended_at: its end was sent.';

create table if not exists ops.alerts (
    alert_id bigint generated always as identity primary key,
    name text not null,
    subject text not null,
    cause text not null,
    severity text not null check (severity in ('info', 'warning', 'error', 'critical')),
    status text not null default 'firing' check (status in ('firing', 'acknowledged', 'silenced', 'resolved')),
    source_system text,
    table_name text,
    what text not null,
    fix text not null,
    error_id text,
    run_id bigint,
    batch_id bigint,
    once boolean not null default false,
    flapping boolean not null default false,
    reported_by text,
    times integer not null default 1,
    fired_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    resolved_at timestamptz,
    resolution text,
    incident_id bigint references ops.incidents (incident_id),
    silence_id bigint references ops.silences (silence_id),
    check ((status = 'resolved') = (resolved_at is not null))
);
comment on table ops.alerts is
'One row per problem, by name and subject. cause: what alerts of one incident have in common. once: tells of an event, which has no end. flapping: it fired too often to be sent each time. reported_by: the check that also resolves it. Contains no values of rows and no secrets.';
create unique index if not exists alerts_open_once on ops.alerts (name, subject) where resolved_at is null;
create index if not exists alerts_by_incident on ops.alerts (incident_id);
create index if not exists alerts_by_name on ops.alerts (name, subject, alert_id);

create table if not exists ops.alert_transitions (
    transition_id bigint generated always as identity primary key,
    alert_id bigint not null references ops.alerts (alert_id) on delete cascade,
    transition text not null check (
        transition in ('fired', 'changed', 'acknowledged', 'silenced', 'fired again', 'resolved')
    ),
    by_whom text,
    note text,
    happened_at timestamptz not null default clock_timestamp(),
    grouped_at timestamptz
);
comment on table ops.alert_transitions is
'One row per change of an alert''s status, in the transaction of what it is about. grouped_at: it was put into messages, or needs none.';
create index if not exists transitions_waiting on ops.alert_transitions (transition_id) where grouped_at is null;
create index if not exists transitions_by_alert on ops.alert_transitions (alert_id);

create table if not exists ops.alert_messages (
    message_id bigint generated always as identity primary key,
    incident_id bigint references ops.incidents (incident_id) on delete cascade,
    channel text not null,
    about text not null,
    severity text not null,
    subject text not null,
    body text not null,
    facts text not null,
    written_at timestamptz not null default clock_timestamp(),
    due_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    problem text,
    sent_at timestamptz,
    dropped_at timestamptz
);
comment on table ops.alert_messages is
'One row per message and channel: the outbox. Written with the transition it tells of, and sent until the receiver accepts it. facts: JSON. dropped_at: it was not due before its incident ended.';
create index if not exists messages_waiting on ops.alert_messages (due_at) where sent_at is null and dropped_at is null;
create index if not exists messages_by_incident on ops.alert_messages (incident_id);

create or replace function ops.fire_alert(alert ops.alerts) returns void
language plpgsql set search_path = pg_catalog as $$
declare
    ranks constant text [] := array['info', 'warning', 'error', 'critical'];
    former ops.alerts;
    new_id bigint;
begin
    loop
        select a.* into former from ops.alerts as a
        where a.name = alert.name and a.subject = alert.subject and a.resolved_at is null for update;
        if found then
            update ops.alerts as a set
                what = alert.what, fix = alert.fix, cause = alert.cause, error_id = alert.error_id,
                run_id = alert.run_id, batch_id = alert.batch_id, times = a.times + 1, last_at = clock_timestamp(),
                severity = ranks[greatest(array_position(ranks, a.severity), array_position(ranks, alert.severity))]
            where a.alert_id = former.alert_id;
            -- Another cause, or a worse one, is news; the same one again is not.
            if
                former.cause <> alert.cause
                or array_position(ranks, alert.severity) > array_position(ranks, former.severity)
            then
                insert into ops.alert_transitions (alert_id, transition, note)
                values (former.alert_id, 'changed', former.what);
            end if;
            return;
        end if;
        insert into ops.alerts as a (
            name, subject, cause, severity, source_system, table_name, what, fix, error_id, run_id, batch_id, once,
            reported_by
        )
        values (
            alert.name, alert.subject, alert.cause, alert.severity, alert.source_system, alert.table_name, alert.what,
            alert.fix, alert.error_id, alert.run_id, alert.batch_id, coalesce(alert.once, false), alert.reported_by
        )
        on conflict (name, subject) where resolved_at is null do nothing
        returning a.alert_id into new_id;
        if new_id is not null then
            insert into ops.alert_transitions (alert_id, transition) values (new_id, 'fired');
            return;
        end if;
    end loop;
end
$$;

create or replace function ops.resolve_alerts(names text [], about text, reason text) returns void
language sql set search_path = pg_catalog as $$
    with ended as (
        update ops.alerts set status = 'resolved', resolved_at = clock_timestamp(), resolution = $3
        where name = any($1) and subject = $2 and resolved_at is null returning alert_id
    )
    insert into ops.alert_transitions (alert_id, transition, note) select alert_id, 'resolved', $3 from ended
$$;

create or replace function ops.alerts_of_load() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    alert ops.alerts;
    problem ops.errors;
    stops bigint;
    about constant text := new.source_system || '.' || new.table_name;
begin
    alert.subject := about;
    alert.source_system := new.source_system;
    alert.table_name := new.table_name;
    alert.run_id := new.run_id;
    alert.batch_id := new.batch_id;
    if new.status in ('failed', 'refused') then
        select e.* into problem from ops.errors as e where e.error_id = new.error_id;
        if problem.failure_class = 'business' then  -- the question to a person has an alert of its own
            return null;
        end if;
        alert.name := 'load ' || new.status;
        alert.error_id := new.error_id;
        alert.severity := coalesce(problem.severity, 'warning');
        alert.what := coalesce(problem.what, new.error, 'the process ended without a word');
        alert.fix := coalesce(problem.fix, 'the next run resumes from the last commit');
        -- A source that does not answer says so in many ways. Numbers differ from run to run, and are no news.
        alert.cause := new.source_system || ': ' || case
            when problem.failure_class = 'transient' then 'unavailable'
            else regexp_replace(alert.what, '[0-9]+', '#', 'g')
        end;
        perform ops.resolve_alerts(
            array['load failed', 'load refused'], about, 'it ended otherwise this time'
        ) from ops.alerts as a
        where a.name in ('load failed', 'load refused') and a.name <> alert.name and a.subject = about
            and a.resolved_at is null;
        perform ops.fire_alert(alert);
        return null;
    end if;
    if new.status = 'stopped' then
        perform ops.resolve_alerts(array['load failed', 'load refused'], about, 'it stopped at a budget this time');
        -- Once is what a budget is for. Again and again, without a complete load in between, the table never catches up.
        select sum(l.stops) into stops from ops.loads as l
        where l.source_system = new.source_system and l.table_name = new.table_name and l.batch_id > coalesce((
            select max(p.batch_id) from ops.loads as p
            where p.source_system = new.source_system and p.table_name = new.table_name and p.status = 'published'
                and p.strategy not in ('repair', 'backfill', 'limited', 'replay')
                and p.reconciliation is distinct from 'incomplete'
        ), 0);
        if stops >= 3 then
            alert.name := 'budget reached';
            alert.severity := 'info';
            alert.what := format('%s loads in a row stopped at a budget. The last one: %s', stops, new.error);
            alert.fix := 'raise the budget, run more often, or declare a cursor so that less is read';
            alert.cause := about || ': budget';
            perform ops.fire_alert(alert);
        end if;
        return null;
    end if;
    -- What reads some keys or partitions does not show that the table can be loaded.
    if new.status <> 'published' or new.strategy in ('repair', 'backfill', 'limited', 'replay') then
        return null;
    end if;
    perform ops.resolve_alerts(array['load failed', 'load refused'], about, 'loaded');
    if new.reconciliation is distinct from 'incomplete' then
        perform ops.resolve_alerts(array['budget reached'], about, 'the table was read to its end');
    end if;
    update ops.decisions set status = 'not needed'
    where subject = about and status = 'open' and kind in ('rejected rows', 'deletes', 'columns');
    if new.reconciliation in ('missing', 'extra', 'duplicate') then
        alert.name := 'result differs';
        alert.severity := case new.reconciliation when 'duplicate' then 'warning' else 'error' end;
        alert.what := format(
            'the load ended with result %s: %s rows at the source, %s in raw, %s in quarantine',
            new.reconciliation, new.source_rows, new.raw_rows, new.quarantine_rows
        );
        alert.fix := format('run `medallion recover %s`: it shows what it would read again', about);
        alert.cause := about || ': ' || new.reconciliation;
        perform ops.fire_alert(alert);
    elsif new.reconciliation = 'match' then
        perform ops.resolve_alerts(array['result differs', 'content differs'], about, 'the last load matches');
    end if;
    if new.skipped is not null then
        alert.name := 'part skipped';
        alert.severity := 'warning';
        alert.what := new.skipped;
        alert.fix := 'fix it at the source: each load tries again';
        alert.cause := about || ': skipped';
        perform ops.fire_alert(alert);
    else
        perform ops.resolve_alerts(array['part skipped'], about, 'the last load skipped nothing');
    end if;
    -- Rows that somebody discarded are counted with each load that reads them again, and are no news.
    if
        new.rows_quarantined > 0
        and exists (
            select from quarantine.rows as q
            where q.source_system = new.source_system and q.table_name = new.table_name and q.resolved_at is null
        )
    then
        alert.name := 'rows quarantined';
        alert.severity := 'warning';
        alert.what := format('%s of %s rows broke a rule and are in quarantine', new.rows_quarantined, new.rows_read);
        alert.fix := format('run `medallion quarantine list %s`', about);
        alert.cause := about || ': quarantine';
        perform ops.fire_alert(alert);
    else
        perform ops.resolve_alerts(array['rows quarantined'], about, 'none of its rows is in quarantine')
        from ops.alerts as a
        where a.name = 'rows quarantined' and a.subject = about and a.resolved_at is null
            and not exists (
                select from quarantine.rows as q
                where q.source_system = new.source_system and q.table_name = new.table_name and q.resolved_at is null
            );
    end if;
    return null;
end
$$;
create or replace trigger alerts after update of status on ops.loads
for each row when (old.status is distinct from new.status) execute function ops.alerts_of_load();

create or replace function ops.alerts_of_run() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    alert ops.alerts;
    problem ops.errors;
    ended constant text := new.details ->> 'ended';
begin
    alert.subject := trim(new.pipeline || ' ' || new.scope);
    if new.status in ('done', 'stopped') then
        perform ops.resolve_alerts(array['run failed', 'run refused'], alert.subject, 'a later run is done');
        return null;
    end if;
    -- Alerts of its loads and checks say more.
    if
        new.status not in ('failed', 'refused')
        or (new.error_id is null and exists (
            select from ops.loads as l where l.run_id = new.run_id and l.status in ('failed', 'refused')
        ))
        or exists (
            select from ops.check_results as c
            where c.run_id = new.run_id and c.outcome not in ('passed', 'warned')
        )
        or exists (
            select from ops.errors as e where e.error_id = new.error_id and e.failure_class = 'business'
        )
    then
        return null;
    end if;
    select e.* into problem from ops.errors as e where e.error_id = new.error_id;
    alert.name := 'run ' || new.status;
    alert.run_id := new.run_id;
    alert.error_id := new.error_id;
    alert.source_system := nullif(new.scope, '');
    alert.severity := case when ended is not null then 'warning' else coalesce(problem.severity, 'error') end;
    alert.once := ended is not null;
    alert.what := coalesce(problem.what, 'the run ended early: ' || ended, 'the run failed');
    alert.fix := coalesce(problem.fix, 'the next run resumes from the last commit');
    alert.cause := coalesce(alert.source_system, new.pipeline) || ': ' || case
        when problem.failure_class = 'transient' and alert.source_system is not null then 'unavailable'
        else regexp_replace(alert.what, '[0-9]+', '#', 'g')
    end;
    if ended is not null then
        alert.name := 'run ended early';
    end if;
    perform ops.fire_alert(alert);
    return null;
end
$$;
create or replace trigger alerts after update of status on ops.runs
for each row when (old.status is distinct from new.status) execute function ops.alerts_of_run();

create or replace function ops.alerts_of_checks() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    found_in record;
    alert ops.alerts;
begin
    for found_in in
        select
            c.dataset,
            c.gate,
            max(c.run_id) as run_id,
            count(*) as checks,
            count(*) filter (where c.outcome = 'warned') as warned,
            count(*) filter (where c.outcome not in ('passed', 'warned')) as failed,
            string_agg(distinct c.check_name, ', ' order by c.check_name)
                filter (where c.outcome <> 'passed') as names
        from added as c
        group by c.dataset, c.gate
    loop
        if found_in.failed = 0 then
            perform ops.resolve_alerts(array['check failed'], found_in.dataset, 'all its checks pass');
        end if;
        if found_in.warned = 0 or found_in.failed > 0 then
            perform ops.resolve_alerts(array['check warns'], found_in.dataset, 'no check warns of it alone');
        end if;
        continue when found_in.failed + found_in.warned = 0;
        alert.name := case when found_in.failed > 0 then 'check failed' else 'check warns' end;
        alert.subject := found_in.dataset;
        alert.severity := case when found_in.failed > 0 then 'error' else 'warning' end;
        alert.run_id := found_in.run_id;
        alert.cause := found_in.dataset || ': ' || found_in.names;
        alert.what := format(
            '%s of %s checks of gate %s: %s', found_in.failed + found_in.warned, found_in.checks, found_in.gate,
            found_in.names
        );
        alert.fix := 'read the artifact `gate-' || found_in.gate || '` of the run, or ops.check_results';
        perform ops.fire_alert(alert);
    end loop;
    return null;
end
$$;
create or replace trigger alerts after insert on ops.check_results referencing new table as added
for each statement execute function ops.alerts_of_checks();

create or replace function ops.alerts_of_reconciliation() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    alert ops.alerts;
    about constant text := new.source_system || '.' || new.table_name;
begin
    if new.result = 'match' then
        perform ops.resolve_alerts(array['content differs', 'result differs'], about, 'both ends match');
        update ops.decisions set status = 'not needed' where subject = about and status = 'open' and kind = 'repair';
    elsif new.result = 'different' then
        alert.name := 'content differs';
        alert.subject := about;
        alert.source_system := new.source_system;
        alert.table_name := new.table_name;
        alert.run_id := new.run_id;
        alert.severity := 'error';
        alert.what := format(
            'source and raw differ: %s rows missing, %s extra, %s different, %s duplicate, %s repaired', new.missing,
            new.extra, new.different, new.duplicate, new.repaired
        );
        alert.fix := format('run `medallion recover %s`: it shows what it would read again', about);
        alert.cause := about || ': content';
        perform ops.fire_alert(alert);
    end if;
    return null;
end
$$;
create or replace trigger alerts after insert on ops.reconciliations
for each row execute function ops.alerts_of_reconciliation();

create or replace function ops.alerts_of_schema_changes() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    found_in record;
    alert ops.alerts;
begin
    for found_in in
        select
            c.source_system,
            c.table_name,
            max(c.batch_id) as batch_id,
            bool_and(c.applied) as applied,
            string_agg(format('%s %s', c.column_name, c.change), ', ' order by c.change_id) as changes
        from added as c
        group by c.source_system, c.table_name
    loop
        alert.name := 'schema changed';
        alert.subject := found_in.source_system || '.' || found_in.table_name;
        alert.source_system := found_in.source_system;
        alert.table_name := found_in.table_name;
        alert.batch_id := found_in.batch_id;
        alert.severity := case when found_in.applied then 'info' else 'warning' end;
        alert.once := true;
        alert.what := found_in.changes || case when found_in.applied then '' else ' (not applied to raw)' end;
        alert.fix := case
            when found_in.applied then 'nothing has to be done; models may use new columns'
            else 'decide: `on_drift` in the declaration, or `medallion reload ' || alert.subject || '`'
        end;
        alert.cause := alert.subject || ': schema';
        perform ops.fire_alert(alert);
    end loop;
    return null;
end
$$;
create or replace trigger alerts after insert on ops.schema_changes referencing new table as added
for each statement execute function ops.alerts_of_schema_changes();

create or replace function ops.alerts_of_circuit() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    alert ops.alerts;
begin
    alert.subject := 'source ' || new.source_system;
    if new.state = 'closed' then
        perform ops.resolve_alerts(array['circuit open'], alert.subject, 'the source answers');
    elsif new.state = 'open' then
        alert.name := 'circuit open';
        alert.source_system := new.source_system;
        alert.severity := 'error';
        alert.what := coalesce(new.what, 'the source fails') || '; no requests until the circuit closes';
        alert.fix := 'check that the source is up; a load tries it again at the time `medallion status` shows';
        alert.cause := new.source_system || ': unavailable';
        perform ops.fire_alert(alert);
    end if;
    return null;
end
$$;
create or replace trigger alerts after insert or update of state on ops.circuits
for each row execute function ops.alerts_of_circuit();

-- Profiles: what the rows of a load look like, column by column. They contain no values of texts and keys: lengths, and
-- shares of rows by 16 buckets of a seeded hash, which many values share. Numbers are rounded to three digits, and only
-- columns with at least 20 values have a distribution. Columns of persons and masked ones have only their null share.
create table if not exists ops.profile_seed (
    only_one boolean primary key default true check (only_one),
    seed bigint not null default hashtextextended(gen_random_uuid()::text, 0)
);
comment on table ops.profile_seed is 'The seed of the hash by which values fall into buckets: another one in each warehouse.';
insert into ops.profile_seed default values on conflict do nothing;

create table if not exists ops.profiles (
    source_system text not null,
    table_name text not null,
    column_name text not null,
    batch_id bigint not null,
    strategy text not null,
    kind text not null check (kind in ('number', 'age', 'length', 'size', 'category', 'nulls')),
    rows bigint not null,
    sampled bigint not null,
    null_share real not null,
    distinct_values bigint,
    quantiles real [],
    shares real [],
    profiled_at timestamptz not null default clock_timestamp(),
    primary key (source_system, table_name, batch_id, column_name)
);
comment on table ops.profiles is
'One row per load and column: its null share and distinct values (estimated if fewer rows were sampled than loaded), 21 quantiles from the least to the greatest, and shares of rows by 16 buckets. kind: what quantiles are of: number, age (hours before the load), length (characters), size (bytes). Commits with the load.';

create index if not exists profiles_by_time on ops.profiles using brin (profiled_at);

create table if not exists ops.profile_days (
    source_system text not null,
    table_name text not null,
    day date not null,
    column_name text not null,
    kind text not null,
    loads integer not null,
    rows bigint not null,
    null_share real not null,
    distinct_values double precision,
    quantiles real [],
    shares real [],
    compared_at timestamptz,
    primary key (source_system, table_name, day, column_name)
);
comment on table ops.profile_days is
'One row per table, day (UTC) and column: the profiles of that day''s ordinary loads, weighted by their rows. compared_at: it was compared with earlier days.';

create table if not exists ops.acceptances (
    acceptance_id bigint generated always as identity primary key,
    source_system text not null,
    table_name text not null,
    column_name text,
    measure text,
    since date not null,
    reason text not null,
    accepted_by text not null,
    by_role text not null default session_user,
    accepted_at timestamptz not null default clock_timestamp()
);
comment on table ops.acceptances is
'One row per change of a table''s data that a person accepted: days before since are no longer what is usual. Without a column or measure: all of them.';
create index if not exists acceptances_by_table on ops.acceptances (source_system, table_name);

create table if not exists ops.anomalies (
    source_system text not null,
    table_name text not null,
    day date not null,
    column_name text not null default '',
    measure text not null check (measure in ('volume', 'arrival', 'nulls', 'distinct', 'distribution', 'categories')),
    state text not null check (state in ('low', 'high', 'late', 'changed')),
    value double precision not null,
    usual double precision not null,
    lowest double precision not null,
    highest double precision not null,
    known integer not null,
    again boolean not null,
    acceptance_id bigint references ops.acceptances (acceptance_id),
    found_at timestamptz not null default clock_timestamp(),
    primary key (source_system, table_name, day, column_name, measure)
);
comment on table ops.anomalies is
'One row per day on which a table (column_name is empty) or a column was unusual, compared with equal weekdays of the ten weeks before (known of them). again: so was the day before.';
create index if not exists anomalies_by_day on ops.anomalies (day);

create or replace view ops.quality_by_day as
with loads as (
    select
        source_system || '.' || table_name as dataset,
        (finished_at at time zone 'UTC')::date as day,
        count(*) as loads,
        count(*) filter (where status = 'refused') as refused_loads,
        sum(coalesce(rows_read, 0)) as rows_read,
        sum(coalesce(case status when 'refused' then rows_read else rows_quarantined end, 0)) as rows_refused
    from ops.loads
    where status in ('published', 'refused') and finished_at is not null
    group by 1, 2
), checks as (
    select
        regexp_replace(dataset, '^raw_', '') as dataset,
        (checked_at at time zone 'UTC')::date as day,
        count(*) as checks,
        count(*) filter (where outcome = 'warned') as checks_warned,
        count(*) filter (where outcome not in ('passed', 'warned')) as checks_failed
    from ops.check_results
    group by 1, 2
), unusual as (
    select
        source_system || '.' || table_name as dataset,
        day,
        count(distinct column_name) filter (where column_name <> '') as unusual_columns,
        bool_or(measure = 'volume') as unusual_volume,
        bool_or(measure = 'arrival') as unusual_arrival
    from ops.anomalies
    group by 1, 2
)
select
    dataset,
    day,
    coalesce(l.loads, 0) as loads,
    coalesce(l.refused_loads, 0) as refused_loads,
    coalesce(l.rows_read, 0)::bigint as rows_read,
    coalesce(l.rows_refused, 0)::bigint as rows_refused,
    coalesce(c.checks, 0) as checks,
    coalesce(c.checks_warned, 0) as checks_warned,
    coalesce(c.checks_failed, 0) as checks_failed,
    least(
        1 - l.rows_refused / nullif(l.rows_read, 0), 1 - c.checks_failed::numeric / nullif(c.checks, 0)
    )::double precision as score,
    coalesce(u.unusual_columns, 0) as unusual_columns,
    coalesce(u.unusual_volume, false) as unusual_volume,
    coalesce(u.unusual_arrival, false) as unusual_arrival
from loads as l
full join checks as c using (dataset, day)
full join unusual as u using (dataset, day);
comment on view ops.quality_by_day is
'One row per table (shop.baskets; of gold: gold.fct_baskets) and day, UTC: rows read and refused by row checks, checks of gates, and what was unusual. score: the share of rows that passed row checks, or of checks that did not fail, whichever is lower; null if there was neither.';

-- The watch from outside: how `medallion status` and others know that it lives.
create table if not exists ops.watches (
    host text primary key,
    version text not null,
    started_at timestamptz not null,
    last_round_at timestamptz not null default clock_timestamp(),
    rounds bigint not null default 1,
    seconds double precision not null
) with (fillfactor = 50);
comment on table ops.watches is
'One row per host that runs `medallion watch`: when its last complete round ended, how long that took, and how many there were since it started.';

-- Whether promises of freshness were kept that the ledger does not tell of: the newest event, and rows that wait for gold.
create table if not exists ops.promise_states (
    subject text not null,
    clock text not null check (clock in ('event', 'pipeline')),
    kept boolean not null,
    since timestamptz not null,
    until timestamptz not null,
    primary key (subject, clock, since),
    check (since <= until)
) with (fillfactor = 50);
comment on table ops.promise_states is
'One row per stretch of time in which the watch found a promise of freshness kept, or broken. Between stretches nobody looked. Two months.';

-- Decisions by people: a run asks, somebody answers once, for exactly the plan that was shown. A question is raised in the
-- transaction of what it is about, and used in the transaction of what it allows. Plans have counts and names, no values.
create table if not exists ops.decisions (
    decision_id bigint generated always as identity primary key,
    kind text not null check (kind in ('rejected rows', 'deletes', 'columns', 'release', 'repair')),
    subject text not null,
    source_system text,
    table_name text,
    what text not null,
    plan jsonb not null,
    plan_digest text not null,
    two_persons boolean not null,
    requested_by text not null,
    run_id bigint,
    batch_id bigint,
    flow_run_id text,
    asked_at timestamptz not null default clock_timestamp(),
    lasts interval not null,
    expires_at timestamptz not null,
    -- void: the plan changed before the answer was used. not needed: a later run had nothing to ask.
    status text not null default 'open' check (
        status in ('open', 'accepted', 'refused', 'expired', 'void', 'not needed')
    ),
    answered_at timestamptz,
    answered_by text,
    by_role text,
    answered_through text check (answered_through in ('command', 'form')),
    reason text,
    used_at timestamptz,
    used_by_run bigint,
    used_by_batch bigint,
    check ((answered_at is null) = (answered_by is null) and (answered_by is null) = (reason is null)),
    check (status not in ('accepted', 'refused') or answered_by is not null),
    check (used_at is null or status in ('accepted', 'refused'))
);
comment on table ops.decisions is
'One row per question to a person: what was shown (plan), who answered when and why, and which run used the answer. Kept for good; an erasure may replace words of the reason by [erased].';
create unique index if not exists decisions_open_once on ops.decisions (kind, subject)
where used_at is null and status in ('open', 'accepted', 'refused');
create index if not exists decisions_by_flow_run on ops.decisions (flow_run_id);
create or replace trigger only_added before truncate on ops.decisions
for each statement execute function ops.refuse_change();
create or replace trigger only_answered before delete or update of
decision_id, kind, subject, source_system, table_name, what, plan, plan_digest, two_persons, requested_by, run_id,
batch_id, flow_run_id, asked_at, lasts on ops.decisions
for each row execute function ops.refuse_change();
create or replace trigger answered_once before update on ops.decisions
for each row when (
    old.answered_by is not null and (
        (old.answered_by, old.by_role, old.answered_at, old.answered_through)
        is distinct from (new.answered_by, new.by_role, new.answered_at, new.answered_through)
        or (new.reason is distinct from old.reason and new.reason not like '%[erased]%')
        or new.status not in (old.status, 'void', 'expired')
        or (old.used_at is not null and (old.used_at, old.status) is distinct from (new.used_at, new.status))
    )
) execute function ops.refuse_change();

create or replace function ops.alerts_of_decision() returns trigger
language plpgsql set search_path = pg_catalog as $$
declare
    alert ops.alerts;
begin
    if new.status = 'open' then
        alert.name := 'decision needed';
        alert.subject := new.subject;
        alert.cause := new.subject || ': decision about ' || new.kind;
        alert.severity := 'error';
        alert.source_system := new.source_system;
        alert.table_name := new.table_name;
        alert.run_id := new.run_id;
        alert.batch_id := new.batch_id;
        alert.what := new.what || to_char(
            new.expires_at at time zone 'UTC', '"; nothing is done until somebody accepts it; refused at "YYYY-MM-DD HH24:MI" UTC"'
        );
        alert.fix := format('run `medallion decide show %s`', new.decision_id);
        perform ops.fire_alert(alert);
        -- Of a table that asks, its refused loads are the same problem.
        perform ops.resolve_alerts(array['load failed', 'load refused'], new.subject, 'a person is asked');
    -- What is void is followed by another question, which tells of it.
    elsif new.status <> 'void' and old.status = 'open' and not exists (
        select from ops.decisions as d where d.subject = new.subject and d.status = 'open'
    ) then
        perform ops.resolve_alerts(
            array['decision needed'], new.subject, new.status || coalesce(' by ' || new.answered_by, '')
        );
    end if;
    return null;
end
$$;
create or replace trigger alerts after insert or update of status on ops.decisions
for each row execute function ops.alerts_of_decision();

create or replace function ops.expire_decisions() returns void
language sql set search_path = pg_catalog as $$
    update ops.decisions set status = 'expired'
    where status in ('open', 'accepted', 'refused') and used_at is null and expires_at <= clock_timestamp()
$$;

-- Whether roles were named that may answer: the members of medallion_approver.
create or replace function ops.has_approvers() returns boolean
language sql stable set search_path = pg_catalog as $$
    select exists (
        select
        from pg_roles as a
        inner join pg_roles as r on r.rolcanlogin and not r.rolsuper and r.oid <> a.oid
        where a.rolname = 'medallion_approver' and pg_has_role(r.oid, a.oid, 'usage')
    )
$$;

-- The answer of a person, if nobody was first: false if the question was closed already. Runs as the owner of the table,
-- so that approvers need no right to write to it.
create or replace function ops.answer_decision(number bigint, given text, person text, why text, way text) returns boolean
language plpgsql security definer set search_path = pg_catalog as $$
declare
    asked ops.decisions;
    is_approver constant boolean := exists (
        select from pg_roles as r where r.rolname = 'medallion_approver' and pg_has_role(session_user, r.oid, 'usage')
    );
begin
    perform ops.expire_decisions();
    select d.* into asked from ops.decisions as d where d.decision_id = number for update;
    if not found then
        raise exception 'decision % does not exist', number using errcode = 'no_data_found';
    end if;
    if asked.status <> 'open' then
        return false;
    end if;
    -- Whoever logs in as an approver answers in no other name.
    if is_approver then
        person := session_user;
    elsif ops.has_approvers() then
        raise exception 'only members of medallion_approver may answer' using errcode = 'insufficient_privilege';
    end if;
    if trim(coalesce(person, '')) = '' or trim(coalesce(why, '')) = '' then
        raise exception 'a name and a reason are needed' using errcode = 'invalid_parameter_value';
    end if;
    if given is null or given not in ('accept', 'refuse') then
        raise exception 'accept or refuse' using errcode = 'invalid_parameter_value';
    end if;
    if asked.two_persons and given = 'accept' and lower(trim(person)) = lower(trim(asked.requested_by)) then
        raise exception 'who requested it may not accept it' using errcode = 'insufficient_privilege';
    end if;
    -- An accepted plan may be used as long as the question was open to an answer.
    update ops.decisions set
        status = case given when 'accept' then 'accepted' else 'refused' end, answered_at = clock_timestamp(),
        answered_by = trim(person), by_role = session_user, answered_through = way, reason = trim(why),
        expires_at = clock_timestamp() + lasts
    where decision_id = number;
    return true;
end
$$;
revoke all on function ops.answer_decision(bigint, text, text, text, text) from public;
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'medallion_approver') then
        grant usage on schema ops to medallion_approver;
        grant select on ops.decisions to medallion_approver;
        grant execute on function ops.answer_decision(bigint, text, text, text, text) to medallion_approver;
    end if;
end
$$;

-- Change capture: what was read from a source's log and waits to be published, and what each load of changes brought.
-- Changes themselves are unlogged tables in `landing`: after a crash they are read again, since a slot only advances to
-- what is published.
create table if not exists ops.captured_changes (
    source_system text not null,
    table_name text not null,
    run_id bigint,
    begins text not null,
    ends text not null,
    facts jsonb not null,
    staged_at timestamptz not null default clock_timestamp(),
    primary key (source_system, table_name)
);
comment on table ops.captured_changes is
'One row per table whose changes from begins to ends were read from the log together with those of another table of the same run: its own load publishes them without reading the log again.';
create table if not exists ops.change_counts (
    batch_id bigint primary key,
    inserts bigint not null,
    updates bigint not null,
    deletes bigint not null,
    truncates bigint not null,
    key_changes bigint not null,
    begins text not null,
    ends text not null,
    committed_at timestamptz,
    noted_at timestamptz not null default clock_timestamp()
);
comment on table ops.change_counts is
'One row per load of changes from a log: how many the source made between two positions, and when it committed the last one. A row that changed twice counts twice here, and once in ops.loads.';

-- What work used, for metrics: CPU, memory, time and rows of the last load, run and model build.
create table if not exists ops.usage (
    kind text not null check (kind in ('load', 'run', 'model')),
    scope text not null,
    name text not null,
    status text not null,
    seconds double precision,
    cpu_seconds double precision,
    memory_bytes bigint,
    rows bigint,
    bytes bigint,
    requests bigint,
    ended_at timestamptz not null default clock_timestamp(),
    primary key (kind, scope, name)
) with (fillfactor = 50);
comment on table ops.usage is
'One row per table (scope: its source), pipeline and scope, and model: what the last of them used. cpu_seconds and memory_bytes are those of the process, with all that ran in it at the same time.';

-- The same by day, for cost and trends.
create table if not exists ops.usage_days (
    day date not null,
    kind text not null,
    scope text not null,
    name text not null,
    times bigint not null,
    seconds double precision not null,
    rows bigint not null,
    bytes bigint not null,
    requests bigint not null default 0,
    primary key (day, kind, scope, name)
) with (fillfactor = 50);
comment on table ops.usage_days is
'What the loads of a table, the runs of a pipeline and the builds of a model used on a day (UTC), in sum.';

create or replace function ops.add_usage_of_day() returns trigger
language plpgsql set search_path = pg_catalog as $$
begin
    insert into ops.usage_days as d (day, kind, scope, name, times, seconds, rows, bytes, requests)
    values (
        (new.ended_at at time zone 'UTC')::date, new.kind, new.scope, new.name, 1, coalesce(new.seconds, 0),
        coalesce(new.rows, 0), coalesce(new.bytes, 0), coalesce(new.requests, 0)
    )
    on conflict (day, kind, scope, name) do update set
    times = d.times + 1, seconds = d.seconds + excluded.seconds, rows = d.rows + excluded.rows,
    bytes = d.bytes + excluded.bytes, requests = d.requests + excluded.requests;
    return null;
end
$$;
create or replace trigger by_day after insert or update on ops.usage
for each row execute function ops.add_usage_of_day();

-- The tuner: changes that `medallion tune` recommended and somebody applied, with figures before and after.
create table if not exists ops.tunings (
    tuning_id bigint generated always as identity primary key,
    recommendation text not null,
    kind text not null,
    source_system text,
    table_name text,
    model text,
    change text not null,
    undo text,
    -- Only for a table's loads: read by the next plan, in place of MEDALLION_<name>.
    settings jsonb,
    measure text not null,
    before jsonb not null,
    expected jsonb not null,
    keep boolean not null default false,
    accepted_by text not null,
    by_role text not null default session_user,
    accepted_at timestamptz not null default clock_timestamp(),
    -- Null: a declaration that still has to be edited, or a statement for the owner of a source.
    applied_at timestamptz,
    after jsonb,
    verdict text check (verdict in ('learning', 'helped', 'no difference', 'worse')),
    evaluated_at timestamptz,
    reverted_at timestamptz,
    reverted_by text,
    revert_reason text
);
comment on table ops.tunings is
'One row per recommendation of `medallion tune` that somebody accepted: the change, who and when, the figures before (medians by weekday) and after, the verdict, and whether it was taken back. Contains no values of rows.';
create unique index if not exists tunings_open_once on ops.tunings (recommendation) where reverted_at is null;
create index if not exists tunings_of_loads on ops.tunings (source_system, table_name)
where settings is not null and reverted_at is null;

-- The dashboard: what people did on its pages, and what its role may read.
create table if not exists ops.dashboard_actions (
    action_id bigint generated always as identity primary key,
    person text not null,
    action text not null,
    subject text not null,
    outcome text not null check (outcome in ('began', 'done', 'failed', 'refused')),
    note text,
    by_role text not null default session_user,
    happened_at timestamptz not null default clock_timestamp()
);
comment on table ops.dashboard_actions is
'One row per step of what somebody did on a page of the dashboard, refused attempts and looks at personal data too. Append-only. Contains no values of rows.';
create or replace trigger only_added before update or delete or truncate on ops.dashboard_actions
for each statement execute function ops.refuse_change();
-- Pages show days and weeks of a year of history.
create index if not exists loads_by_time on ops.loads (started_at);
create index if not exists errors_by_time on ops.errors (occurred_at);

create or replace function ops.let_dashboard_read() returns void
language plpgsql set search_path = pg_catalog as $$
begin
    if to_regrole('medallion_dashboard') is null then
        return;
    end if;
    grant usage on schema ops, quarantine to medallion_dashboard;
    -- Not cursors, states and positions: they are values of rows. Nor the keys of locks.
    grant select on
        ops.schema_version, ops.runs, ops.loads, ops.chunks, ops.errors, ops.check_results, ops.reconciliations,
        ops.schema_changes, ops.circuits, ops.dbt_manifests, ops.model_builds, ops.releases, ops.incidents, ops.silences, ops.alerts,
        ops.alert_transitions, ops.alert_messages, ops.watches, ops.dashboard_actions, ops.usage,
        ops.usage_days, ops.promise_states
    to medallion_dashboard;
    -- Without the words of people.
    grant select (
        decision_id, kind, subject, source_system, table_name, what, run_id, batch_id, asked_at, expires_at, status,
        answered_at, used_at
    ) on ops.decisions to medallion_dashboard;
    -- How many rows and why, not what is in them.
    grant select (
        quarantine_id, batch_id, source_system, table_name, rule, quarantined_at, resolved_at, resolution, resolved_by,
        reason, withheld
    ) on quarantine.rows to medallion_dashboard;
end
$$;
select ops.let_dashboard_read();

insert into ops.schema_version (version) values (14) on conflict do nothing;
