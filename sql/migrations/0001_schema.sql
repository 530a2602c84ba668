-- Tables of the schema `inventory`.

CREATE SCHEMA inventory;

COMMENT ON SCHEMA inventory IS
    'Stock, the channels that sell it, and the tables that change data capture needs';

CREATE TABLE inventory.warehouse (
    -- The last bar in a key `sku|warehouse` ends the SKU; a leading colon marks internal fields.
    code text PRIMARY KEY CHECK (code ~ '^[^:|][^|]{0,63}$'),
    name text NOT NULL
);

-- Versions are even: a delete is seen downstream as the deleted row's version + 1.
-- No cache: a session that keeps numbers back would give an older one to a newer change.
CREATE SEQUENCE inventory.stock_version AS bigint START WITH 2 MINVALUE 2 INCREMENT BY 2 CACHE 1;

-- The length of a SKU is not checked here: what cannot be projected is the pipeline's to report.
CREATE TABLE inventory.stock (
    sku text NOT NULL,
    -- The check takes a key-share lock on the warehouse, on inserts only: quantities change freely.
    warehouse text NOT NULL REFERENCES inventory.warehouse (code),
    on_hand integer NOT NULL,
    reserved integer NOT NULL DEFAULT 0,
    safety_stock integer NOT NULL DEFAULT 0,
    incoming integer NOT NULL DEFAULT 0,
    incoming_at timestamptz,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    -- A change event carries them twice, and one that Kafka refuses for its size stops all capture.
    reason text CHECK (octet_length(reason) <= 1000),
    reference text CHECK (octet_length(reference) <= 1000),
    caused_by text CHECK (octet_length(caused_by) <= 1000),
    PRIMARY KEY (sku, warehouse),
    CONSTRAINT stock_quantities_not_negative CHECK (on_hand >= 0 AND reserved >= 0),
    CONSTRAINT stock_version_even CHECK (version % 2 = 0)
);

COMMENT ON COLUMN inventory.stock.version IS
    'Set by trigger, whatever a statement says; only rises for a (sku, warehouse), also across deletes';
COMMENT ON COLUMN inventory.stock.reason IS 'Why the row changed last, e.g. order, shipment, count';
COMMENT ON COLUMN inventory.stock.reference IS 'The document behind it, e.g. an order number';
COMMENT ON COLUMN inventory.stock.caused_by IS 'The person or program behind it';

-- What a waiting insert must be newer than (see 0002); not captured.
CREATE TABLE inventory.stock_deletion (
    sku text NOT NULL,
    warehouse text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (sku, warehouse)
);

CREATE TABLE inventory.channel (
    -- The name becomes a Redis field (`<name>`, `<name>:status`), beside the field `as_of`.
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$' AND name <> 'as_of'),
    kind text NOT NULL CHECK (kind IN ('availability', 'level', 'movement')),
    -- Our own topics are not a channel's: a worker would read what it writes.
    topic text NOT NULL UNIQUE
        CHECK (topic ~ '^[A-Za-z0-9._-]{1,249}$' AND topic !~ '^(stockwire|_)'),
    warehouses text[] CHECK (array_position(warehouses, NULL) IS NULL),
    buffer integer NOT NULL DEFAULT 0 CHECK (buffer >= 0),
    share numeric(5, 4) NOT NULL DEFAULT 1 CHECK (share BETWEEN 0 AND 1),
    low_stock_threshold integer NOT NULL DEFAULT 5 CHECK (low_stock_threshold >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON COLUMN inventory.channel.warehouses IS 'The warehouses it sells from; null means all';

-- A null takes the channel's value.
CREATE TABLE inventory.channel_sku (
    channel text NOT NULL REFERENCES inventory.channel (name) ON DELETE CASCADE,
    sku text NOT NULL,
    buffer integer CHECK (buffer >= 0),
    share numeric(5, 4) CHECK (share BETWEEN 0 AND 1),
    low_stock_threshold integer CHECK (low_stock_threshold >= 0),
    blocked boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, sku)
);

-- The columns that Debezium's outbox event router expects.
CREATE TABLE inventory.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL CHECK (octet_length(aggregatetype) <= 200),
    aggregateid text NOT NULL CHECK (octet_length(aggregateid) <= 1000),
    type text NOT NULL CHECK (octet_length(type) <= 200),
    -- JSON as bytes: it leaves exactly as it was written. Larger than this, Kafka would refuse the
    -- event and all capture would stop behind it; here the writer's transaction fails instead.
    payload bytea NOT NULL
        CHECK (octet_length(payload) <= 921600 AND convert_from(payload, 'UTF8')::json IS NOT NULL),
    traceparent text CHECK (octet_length(traceparent) <= 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE inventory.heartbeat (
    id integer PRIMARY KEY CHECK (id = 1),
    beat_at timestamptz NOT NULL
);

-- The columns that Debezium's `source` signal channel expects.
CREATE TABLE inventory.debezium_signal (
    id varchar(64) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
);

-- A change event then carries the whole row before the change: movements are computed from it.
ALTER TABLE inventory.stock REPLICA IDENTITY FULL;
ALTER TABLE inventory.channel REPLICA IDENTITY FULL;
ALTER TABLE inventory.channel_sku REPLICA IDENTITY FULL;
