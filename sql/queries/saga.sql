-- What takes checkouts in, carries them on and shows them, as the application's role.

-- A command that came before, in whatever order and however often, leaves everything as it is.
-- name: accept_checkout
WITH first AS (
    INSERT INTO inventory.processed_event (event_id, consumer)
    VALUES (%(id)s::uuid::text, 'checkout')
    ON CONFLICT DO NOTHING
    RETURNING event_id
)
INSERT INTO inventory.saga (id, reference, command, steps, status)
SELECT event_id::uuid, %(reference)s::text, %(command)s::jsonb, %(steps)s::jsonb,
    %(status)s::text
FROM first
ON CONFLICT (id) DO NOTHING

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
