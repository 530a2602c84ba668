-- Checkouts that are under way or have ended, each a saga: see docs/decisions/0019-checkout-saga.md.
-- depends: 0009_reservations

CREATE TABLE inventory.saga (
    id uuid PRIMARY KEY,
    reference text NOT NULL CHECK (char_length(reference) BETWEEN 1 AND 200),
    command jsonb NOT NULL,
    steps jsonb NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'compensating', 'completed', 'failed')),
    version bigint NOT NULL DEFAULT 1,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_by text,
    claimed_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT saga_ended CHECK ((status IN ('completed', 'failed')) = (ended_at IS NOT NULL))
);

COMMENT ON COLUMN inventory.saga.status IS
    'Follows from `steps`, and is written with them to be searched for; nothing is decided by it';
COMMENT ON COLUMN inventory.saga.version IS
    'Rises with each claim and each result: who lost the claim writes nothing any more';
COMMENT ON COLUMN inventory.saga.claimed_until IS
    'Until then nobody else takes it; an orchestrator that was killed is waited for no longer';

-- What is due is found without reading what has ended.
CREATE INDEX saga_due ON inventory.saga (due_at) WHERE ended_at IS NULL;
CREATE INDEX saga_created ON inventory.saga (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON inventory.saga TO stockwire_app;
