-- What Debezium captures, the roles, and what each of them may do.
-- depends: 0002_stock_version 0003_channels

INSERT INTO inventory.heartbeat (id, beat_at) VALUES (1, clock_timestamp());

-- Truncates are refused below, so they are not published either.
CREATE PUBLICATION stockwire FOR TABLE
    inventory.stock,
    inventory.channel,
    inventory.channel_sku,
    inventory.outbox,
    inventory.heartbeat,
    inventory.debezium_signal
    WITH (publish = 'insert, update, delete');

-- Not granting TRUNCATE stops the roles; the trigger stops the owner as well. A truncate says
-- nothing of the rows it removes, so nothing downstream could follow it.
CREATE FUNCTION inventory.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused: it would leave Redis and the channels with rows '
        'that are gone; use DELETE', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.stock
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.channel
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.channel_sku
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.heartbeat
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON inventory.debezium_signal
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_truncate();

-- Roles belong to the cluster: another database, or the operator who gave them passwords, may
-- have made them already, perhaps at this moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stockwire_debezium') THEN
        CREATE ROLE stockwire_debezium LOGIN REPLICATION;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stockwire_app') THEN
        CREATE ROLE stockwire_app LOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

GRANT USAGE ON SCHEMA inventory TO stockwire_debezium, stockwire_app;

GRANT SELECT ON
    inventory.stock,
    inventory.channel,
    inventory.channel_sku,
    inventory.outbox,
    inventory.heartbeat,
    inventory.debezium_signal
    TO stockwire_debezium;
GRANT INSERT, UPDATE ON inventory.heartbeat TO stockwire_debezium;
-- Incremental snapshots write their watermarks here.
GRANT INSERT ON inventory.debezium_signal TO stockwire_debezium;

GRANT SELECT, INSERT, UPDATE, DELETE ON
    inventory.stock,
    inventory.warehouse,
    inventory.channel,
    inventory.channel_sku
    TO stockwire_app;
GRANT SELECT, INSERT, DELETE ON inventory.outbox TO stockwire_app;
-- Drawing a version, in the trigger; setting the sequence back is not included.
GRANT USAGE ON SEQUENCE inventory.stock_version TO stockwire_app;
