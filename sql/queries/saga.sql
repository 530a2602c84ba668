-- What takes checkouts in, carries them on and shows them, as the application's role.

-- A command that came before, in whatever order and however often, leaves everything as it is.
-- Always in the order of ids: two batches with the same commands do not wait for each other.
-- name: accept_checkouts
WITH came AS (
    SELECT DISTINCT ON (id) id, reference, command
    FROM unnest(%(ids)s::uuid[], %(references)s::text[], %(commands)s::text[])
        WITH ORDINALITY AS c (id, reference, command, number)
    ORDER BY id, number
), first AS (
    INSERT INTO inventory.processed_event (event_id, consumer)
    SELECT id::text, 'checkout' FROM came ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING event_id
)
INSERT INTO inventory.saga (id, reference, command, steps, status)
SELECT id, reference, command::jsonb, %(steps)s::jsonb, %(status)s::text
FROM came
JOIN first ON first.event_id = came.id::text
ORDER BY id
ON CONFLICT (id) DO NOTHING

-- Which of these commands, counted from 0, came under the id of another one.
-- name: contradicting_checkouts
SELECT (came.number - 1)::int AS number
FROM unnest(%(ids)s::uuid[], %(commands)s::text[]) WITH ORDINALITY AS came (id, command, number)
JOIN inventory.saga s ON s.id = came.id
WHERE s.command <> came.command::jsonb
ORDER BY came.number

-- How many have not ended, as far as that matters.
-- name: count_open_sagas
SELECT count(*)::int AS open
FROM (SELECT FROM inventory.saga WHERE ended_at IS NULL LIMIT %(most)s::int) AS counted

-- Who claims raises the version: what the one before still writes comes to nothing.
-- name: claim_sagas
WITH due AS (
    SELECT id FROM inventory.saga
    WHERE ended_at IS NULL AND due_at <= now()
        AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY due_at
    LIMIT %(most)s::int
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE inventory.saga s
SET version = s.version + 1, claimed_by = %(claimed_by)s::text,
    claimed_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s::float8)
FROM due
WHERE s.id = due.id
RETURNING s.id, s.command, s.steps, s.version, clock_timestamp() AS read_at

-- A result, and what it has to tell, or neither: no row when somebody else has claimed the saga.
-- While there is more to do at once the claim is kept, and lasts anew.
-- name: write_saga
WITH written AS (
    UPDATE inventory.saga
    SET steps = %(steps)s::jsonb, status = %(status)s::text, version = version + 1,
        updated_at = clock_timestamp(),
        due_at = clock_timestamp() + make_interval(secs => %(pause_seconds)s::float8),
        claimed_until = CASE
            WHEN %(ended)s::boolean OR %(pause_seconds)s::float8 > 0 THEN NULL
            ELSE clock_timestamp() + make_interval(secs => %(lease_seconds)s::float8)
        END,
        ended_at = CASE WHEN %(ended)s::boolean THEN clock_timestamp() END
    WHERE id = %(id)s AND version = %(version)s AND ended_at IS NULL
    RETURNING version
), told AS (
    INSERT INTO inventory.outbox (id, aggregatetype, aggregateid, type, payload)
    SELECT %(event_id)s::uuid, %(aggregatetype)s::text, %(aggregateid)s::text, %(type)s::text,
        %(payload)s::bytea
    FROM written
    WHERE %(event_id)s::uuid IS NOT NULL
)
SELECT version, clock_timestamp() AS read_at FROM written

-- name: give_back_saga
UPDATE inventory.saga SET claimed_until = NULL WHERE id = %(id)s AND version = %(version)s

-- name: list_sagas
SELECT id, command, steps, version, clock_timestamp() AS read_at,
    due_at, claimed_by, claimed_until, created_at, updated_at, ended_at
FROM inventory.saga
WHERE %(status)s::text IS NULL OR status = %(status)s
ORDER BY created_at DESC
LIMIT %(most)s::int

-- name: find_saga
SELECT id, command, steps, version, clock_timestamp() AS read_at,
    due_at, claimed_by, claimed_until, created_at, updated_at, ended_at
FROM inventory.saga
WHERE id = %(id)s

-- Its next step is due now rather than after its pause; no row when it has ended.
-- name: retry_saga
UPDATE inventory.saga SET due_at = now()
WHERE id = %(id)s AND ended_at IS NULL
RETURNING id
