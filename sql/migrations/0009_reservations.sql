-- Units that are held for somebody, and what makes every write happen once.
-- depends: 0008_deletions_seen

CREATE TABLE inventory.reservation (
    id uuid PRIMARY KEY,
    caller text NOT NULL CHECK (char_length(caller) BETWEEN 1 AND 200),
    reference text NOT NULL CHECK (char_length(reference) BETWEEN 1 AND 200),
    strategy text NOT NULL CHECK (strategy IN ('optimistic', 'pessimistic', 'redis')),
    status text NOT NULL DEFAULT 'held'
        CHECK (status IN ('held', 'confirmed', 'released', 'expired')),
    held_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    CONSTRAINT reservation_closed CHECK ((status = 'held') = (closed_at IS NULL))
);

COMMENT ON TABLE inventory.reservation IS
    'While it is held, its lines are part of `reserved` of their rows of stock. Confirmed: the units '
    'have left `on_hand` and `reserved` together. Released and expired: `reserved` alone';

-- What is due is found without reading what is closed.
CREATE INDEX reservation_due ON inventory.reservation (held_until) WHERE status = 'held';

CREATE TABLE inventory.reservation_line (
    reservation uuid NOT NULL REFERENCES inventory.reservation (id) ON DELETE CASCADE,
    sku text NOT NULL,
    warehouse text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation, sku, warehouse)
);

-- The same key gives the same answer. It commits with the effect: a key without one is no key.
CREATE TABLE inventory.idempotency_key (
    caller text NOT NULL,
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    request bytea NOT NULL,
    answer jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (caller, key)
);

COMMENT ON COLUMN inventory.idempotency_key.request IS 'SHA-256 of the request';

CREATE INDEX idempotency_key_age ON inventory.idempotency_key (created_at);

-- A consumer writes it in the transaction of its effect.
CREATE TABLE inventory.processed_event (
    event_id text NOT NULL CHECK (char_length(event_id) BETWEEN 1 AND 200),
    consumer text NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, consumer)
);

CREATE INDEX processed_event_age ON inventory.processed_event (processed_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON
    inventory.reservation,
    inventory.reservation_line,
    inventory.idempotency_key,
    inventory.processed_event
    TO stockwire_app;

-- Fails the statement that calls it: others have changed what it was to change.
CREATE FUNCTION inventory.overtaken() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'others have changed the rows meanwhile' USING ERRCODE = 'serialization_failure';
END
$$;
