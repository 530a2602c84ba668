-- What the doctor and the guardian look at, as the application's role.

-- name: doctor_server
SELECT current_setting('server_version_num')::int AS server_version,
    current_setting('wal_level') AS wal_level,
    current_setting('max_replication_slots')::int AS max_slots,
    (SELECT count(*)::int FROM pg_replication_slots) AS slots,
    -- In MB; -1 keeps all.
    (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_keep_mb,
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal_position,
    extract(epoch FROM clock_timestamp())::float8 AS clock

-- name: doctor_wal_position
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint

-- name: doctor_data_directory
SELECT inventory.data_directory()

-- `inactive_since` came with Postgres 17: through JSON it is null before.
-- name: doctor_slot
SELECT s.active, coalesce(s.wal_status, 'lost') AS wal_status,
    pg_wal_lsn_diff(s.restart_lsn, '0/0')::bigint AS restart_position,
    pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0')::bigint AS confirmed_position,
    pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint AS retained_bytes,
    s.safe_wal_size AS safe_bytes,
    extract(epoch FROM clock_timestamp()
        - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8 AS inactive_seconds
FROM pg_replication_slots s
WHERE s.slot_name = %(slot)s AND s.database = current_database()

-- name: doctor_published
SELECT schemaname || '.' || tablename AS name FROM pg_publication_tables
WHERE pubname = %(publication)s
ORDER BY name

-- 'f' is FULL, 'd' the primary key.
-- name: doctor_identities
SELECT n.nspname || '.' || c.relname AS name, c.relreplident::text AS identity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'inventory' AND c.relkind IN ('r', 'p')

-- What Debezium's role may not do and must.
-- name: doctor_rights
SELECT CASE WHEN r.oid IS NULL THEN 'LOGIN as ' || wanted.role
    WHEN wanted.privilege = 'REPLICATION' THEN wanted.privilege
    ELSE wanted.privilege || ' on ' || wanted.relation END AS missing
FROM (
    SELECT %(role)s::text AS role, privilege, relation
    FROM unnest(%(privileges)s::text[], %(relations)s::text[]) AS t (privilege, relation)
) AS wanted
LEFT JOIN pg_roles r ON r.rolname = wanted.role
WHERE CASE WHEN r.oid IS NULL THEN true
    WHEN wanted.privilege = 'REPLICATION' THEN NOT (r.rolreplication OR r.rolsuper)
    WHEN to_regclass(wanted.relation) IS NULL THEN true
    ELSE NOT has_table_privilege(r.oid, to_regclass(wanted.relation), wanted.privilege) END

-- 0 before the first version is drawn. Null when it may not be read, and no row when it is not there:
-- pg_sequences shows null for both, and unknown must not pass for 0.
-- name: doctor_stock_version
SELECT CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE')
    THEN coalesce(s.last_value, 0) END AS last_version
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequences s ON s.schemaname = n.nspname AND s.sequencename = c.relname
WHERE n.nspname = 'inventory' AND c.relname = 'stock_version'

-- Topics of the channels that there are.
-- name: doctor_channel_topics
SELECT topic, kind FROM inventory.channel ORDER BY topic

-- name: line_stop
SELECT reason, stopped_at FROM inventory.line_stop

-- name: stop_line
INSERT INTO inventory.line_stop (reason) VALUES (%(reason)s) ON CONFLICT DO NOTHING
