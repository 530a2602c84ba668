-- Who waits for whom, as the application's role: of other roles it sees the sessions, and not what
-- they run.

-- name: lock_report_timeout
SELECT set_config('statement_timeout', %(milliseconds)s::text, true)

-- A row per session that waits and session in its way: one that holds the lock, or one before it in
-- the queue. What is waited for is mostly another transaction's end; the row is known from the
-- lock on the tuple, which the first in the queue has and the others wait for. Of stock the key is
-- looked up by that place in the table, as long as the version there is the last one committed.
-- name: lock_waits
SELECT wanted.pid AS waiting_pid, waiting.usename AS waiting_role,
    waiting.application_name AS waiting_application, waiting.query AS waiting_query,
    blocking.pid AS blocking_pid, blocking.usename AS blocking_role,
    blocking.application_name AS blocking_application, blocking.query AS blocking_query,
    blocking.state AS blocking_state,
    extract(epoch FROM clock_timestamp() - blocking.xact_start)::float8 AS blocking_seconds,
    -- Null for the first moments of a wait.
    coalesce(extract(epoch FROM clock_timestamp() - wanted.waitstart), 0)::float8 AS waiting_seconds,
    wanted.locktype AS lock, wanted.mode,
    coalesce(place.relation, wanted.relation)::regclass::text AS relation,
    place.ctid::text AS ctid, stock.sku, stock.warehouse
FROM pg_locks wanted
CROSS JOIN LATERAL unnest(pg_blocking_pids(wanted.pid)) AS in_the_way (pid)
JOIN pg_stat_activity waiting ON waiting.pid = wanted.pid
LEFT JOIN pg_stat_activity blocking ON blocking.pid = in_the_way.pid
LEFT JOIN LATERAL (
    SELECT l.relation, format('(%%s,%%s)', l.page, l.tuple)::tid AS ctid
    FROM pg_locks l
    WHERE l.pid = wanted.pid AND l.locktype = 'tuple'
    LIMIT 1
) AS place ON true
LEFT JOIN LATERAL (
    SELECT s.sku, s.warehouse FROM inventory.stock s
    WHERE place.relation = 'inventory.stock'::regclass AND s.ctid = place.ctid
) AS stock ON true
WHERE NOT wanted.granted AND waiting.datname = current_database()
ORDER BY waiting_seconds DESC, waiting_pid, blocking_pid
