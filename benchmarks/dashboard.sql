-- A history for the dashboard: `tables` tables loaded every hour for `days` days, as their ledger would have it. One load
-- of 400 fails and the next is published; a table is quicker at night; rows are read, deduplicated and quarantined.
-- {tables} and {days} are filled in by whoever runs it.
insert into ops.errors (error_id, failure_class, severity, strategy, location, what, fix, retryable, occurred_at)
select
    'e' || n,
    (array['transient', 'transient', 'transient', 'data', 'schema', 'resource'])[1 + n % 6],
    (array['warning', 'warning', 'warning', 'error', 'error', 'critical'])[1 + n % 6],
    'back off and retry',
    'shop.table_' || n % {tables},
    (array['the server closed the connection', 'no answer within 10 s', 'the server is restarting',
        '3 of 1,200 rows broke a rule', 'column price changed from integer to text', 'the disk is full'])[1 + n % 6],
    (array['wait: the next run resumes from the last commit', 'wait: the next run resumes from the last commit',
        'wait: the next run resumes from the last commit', 'run `medallion quarantine list`',
        'decide: `on_drift` in the declaration, or `medallion reload`', 'free space, or enlarge the disk'])[1 + n % 6],
    n % 6 < 3,
    date_trunc('hour', clock_timestamp()) - make_interval(hours => n * {days} * 24 / greatest({tables} * {days} * 24 / 400, 1))
from generate_series(1, greatest({tables} * {days} * 24 / 400, 1)) as n;

insert into ops.loads (
    source_system, table_name, strategy, status, started_at, finished_at, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, bytes, source_rows, raw_rows, quarantine_rows,
    reconciliation, error, error_id
)
select
    'shop', 'table_' || t, 'window', case when failed then 'failed' else 'published' end, began,
    began + make_interval(secs => (2 + t % 7) * (1 + (hour % 12) / 8.0) * (1 + ((hour * 7919 + t * 104729) % 97) / 60.0)),
    case when failed then null else rows end,
    case when failed then null else rows - rows / 5 - rows / 100 - rows / 500 end,
    case when failed then null else rows / 5 end, case when failed then null else 0 end,
    case when failed then null else rows / 100 end, case when failed then null else rows / 500 end,
    case when failed then null else rows / 1000 end, case when failed then null else rows * 180 end,
    hour * 40, hour * 40, 0, case when failed then null else 'match' end,
    case when failed then 'the server closed the connection' end, null
from (
    select
        t, hour, (hour * 31 + t * 17) % 400 = 0 as failed,
        date_trunc('hour', clock_timestamp()) - make_interval(hours => {days} * 24 - hour, mins => -5) as began,
        (400 + (hour * 7919 + t * 104729) % 900) * (1 + t % 4) as rows
    from generate_series(1, {days} * 24 - 1) as hour
    cross join generate_series(0, {tables} - 1) as t
    order by hour, t
) as planned;

insert into ops.chunks (
    batch_id, lower_step, upper_step, attempt, rows, bytes, seconds, memory_bytes, size_bytes, size_reason, worker,
    committed_at
)
select batch_id, c, c + 1, 1, rows_read / 4, bytes / 4, 0.4, 20000000 + (batch_id * 7919 % 30000000), 16000000, 'measured',
    'host:1', finished_at
from ops.loads cross join generate_series(0, 3) as c where table_name = 'table_3' and status = 'published';
analyze ops.loads, ops.errors, ops.chunks;
