-- The rest of a channel's policy, and policy versions that only rise, as those of stock do.
-- depends: 0004_capture

ALTER TABLE inventory.channel
    ADD COLUMN priority integer NOT NULL DEFAULT 100,
    ADD COLUMN max_per_order integer CHECK (max_per_order > 0),
    ADD COLUMN backorder_limit integer NOT NULL DEFAULT 0 CHECK (backorder_limit >= 0),
    ADD COLUMN low_stock_hysteresis integer NOT NULL DEFAULT 2 CHECK (low_stock_hysteresis >= 0),
    ADD COLUMN blocked boolean NOT NULL DEFAULT false,
    -- Bounded as the `caused_by` that it is compared with.
    ADD COLUMN echo_of text CHECK (octet_length(echo_of) <= 1000),
    ADD COLUMN version bigint,
    -- Also a topic of ours; whoever migrates with such a channel is told by this name.
    ADD CONSTRAINT channel_topic_not_of_alerts CHECK (topic <> 'stock.alerts.v1'),
    -- Availability adds up what many have caused: there is no single one to leave out.
    ADD CONSTRAINT channel_echo_not_of_availability
        CHECK (echo_of IS NULL OR kind <> 'availability');

COMMENT ON COLUMN inventory.channel.warehouses IS
    'The warehouses it sells from, first the one with the highest priority; null means all';
COMMENT ON COLUMN inventory.channel.priority IS
    'Whose ring-fence is filled first when stock is short: the lower number''s, ties by name';
COMMENT ON COLUMN inventory.channel.max_per_order IS 'The most one order may take; null means any';
COMMENT ON COLUMN inventory.channel.backorder_limit IS 'Sold in advance when nothing is left';
COMMENT ON COLUMN inventory.channel.low_stock_hysteresis IS
    'How far above its threshold stock must rise before it is no longer low';
COMMENT ON COLUMN inventory.channel.echo_of IS 'The `caused_by` that is this channel''s own';
COMMENT ON COLUMN inventory.channel.version IS
    'Set by trigger, whatever a statement says; only rises for a channel, also across deletes';

ALTER TABLE inventory.channel_sku
    ADD COLUMN ring_fence integer NOT NULL DEFAULT 0 CHECK (ring_fence >= 0),
    ADD COLUMN max_per_order integer CHECK (max_per_order > 0),
    ADD COLUMN backorder_limit integer CHECK (backorder_limit >= 0),
    ADD COLUMN low_stock_hysteresis integer CHECK (low_stock_hysteresis >= 0),
    ADD COLUMN version bigint;

COMMENT ON COLUMN inventory.channel_sku.ring_fence IS 'Units that no other channel may sell';
COMMENT ON COLUMN inventory.channel_sku.version IS
    'Set by trigger, whatever a statement says; only rises for a (channel, sku), also across deletes';

-- As for stock: even, because a delete is seen downstream as the deleted row's version + 1, and
-- no cache.
CREATE SEQUENCE inventory.policy_version AS bigint START WITH 2 MINVALUE 2 INCREMENT BY 2 CACHE 1;

-- Drawing a version, in the trigger; setting the sequence back is not included.
GRANT USAGE ON SEQUENCE inventory.policy_version TO stockwire_app;

CREATE OR REPLACE FUNCTION inventory.stamp_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('inventory.policy_version'::regclass);
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- Who subscribes has chosen a topic and a kind of message, and a back-fill is for one of them.
CREATE FUNCTION inventory.refuse_another_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The name, kind and topic of channel % stay as they are, its subscribers depend '
        'on them; remove the channel and make a new one', OLD.name
        USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE TRIGGER refuse_another BEFORE UPDATE ON inventory.channel
    FOR EACH ROW
    WHEN ((OLD.name, OLD.kind, OLD.topic) IS DISTINCT FROM (NEW.name, NEW.kind, NEW.topic))
    EXECUTE FUNCTION inventory.refuse_another_channel();

-- A trigger and not a check, which could not say what to do.
CREATE FUNCTION inventory.check_warehouses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(NEW.warehouses) = 0 THEN
        RAISE EXCEPTION 'Channel % sells from no warehouse; name some, or null for all, or set '
            'blocked to sell nothing', NEW.name
            USING ERRCODE = 'check_violation';
    ELSIF EXISTS (SELECT FROM unnest(NEW.warehouses) AS code GROUP BY code HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'Channel % names a warehouse twice in %; name each once, first the one with '
            'the highest priority', NEW.name, NEW.warehouses
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER check_warehouses BEFORE INSERT OR UPDATE OF warehouses ON inventory.channel
    FOR EACH ROW WHEN (NEW.warehouses IS NOT NULL)
    EXECUTE FUNCTION inventory.check_warehouses();

-- An insert that waits for a delete of its key is the older one (0002 says why): the same cure.
-- Not captured. A null `sku` stands for the channel's own row.
CREATE TABLE inventory.policy_deletion (
    channel text NOT NULL,
    sku text,
    version bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (channel, sku)
);

CREATE FUNCTION inventory.mark_policy_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    key inventory.policy_deletion;
BEGIN
    IF TG_TABLE_NAME = 'channel' THEN
        key.channel := OLD.name;
    ELSE
        key.channel := OLD.channel;
        key.sku := OLD.sku;
    END IF;
    INSERT INTO inventory.policy_deletion AS d (channel, sku, version)
    VALUES (key.channel, key.sku, OLD.version + 1)
    ON CONFLICT (channel, sku) DO UPDATE SET version = EXCLUDED.version;
    RETURN NULL;
END
$$;

CREATE FUNCTION inventory.overtake_channel_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    -- Above READ COMMITTED the snapshot may hide the marker: draw again in any case.
    IF current_setting('transaction_isolation') <> 'read committed' OR EXISTS (
        SELECT FROM inventory.policy_deletion d
        WHERE d.channel = NEW.name AND d.sku IS NULL AND d.version > NEW.version
    ) THEN
        UPDATE inventory.channel c SET version = c.version WHERE c.name = NEW.name;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION inventory.overtake_channel_sku_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR EXISTS (
        SELECT FROM inventory.policy_deletion d
        WHERE d.channel = NEW.channel AND d.sku = NEW.sku AND d.version > NEW.version
    ) THEN
        UPDATE inventory.channel_sku c SET version = c.version
        WHERE c.channel = NEW.channel AND c.sku = NEW.sku;
    END IF;
    RETURN NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION
    inventory.mark_policy_deletion(),
    inventory.overtake_channel_deletion(),
    inventory.overtake_channel_sku_deletion()
    FROM PUBLIC;

CREATE TRIGGER mark_deletion AFTER DELETE ON inventory.channel
    FOR EACH ROW EXECUTE FUNCTION inventory.mark_policy_deletion();

CREATE TRIGGER mark_deletion AFTER DELETE ON inventory.channel_sku
    FOR EACH ROW EXECUTE FUNCTION inventory.mark_policy_deletion();

CREATE TRIGGER mark_departure AFTER UPDATE ON inventory.channel_sku
    FOR EACH ROW WHEN ((OLD.channel, OLD.sku) IS DISTINCT FROM (NEW.channel, NEW.sku))
    EXECUTE FUNCTION inventory.mark_policy_deletion();

CREATE TRIGGER overtake_deletion AFTER INSERT ON inventory.channel
    FOR EACH ROW EXECUTE FUNCTION inventory.overtake_channel_deletion();

CREATE TRIGGER overtake_deletion AFTER INSERT ON inventory.channel_sku
    FOR EACH ROW EXECUTE FUNCTION inventory.overtake_channel_sku_deletion();

CREATE TRIGGER overtake_at_arrival AFTER UPDATE ON inventory.channel_sku
    FOR EACH ROW WHEN ((OLD.channel, OLD.sku) IS DISTINCT FROM (NEW.channel, NEW.sku))
    EXECUTE FUNCTION inventory.overtake_channel_sku_deletion();

-- Updates and not defaults: downstream is told of them. They name `warehouses`, so that lists of
-- old that mean nothing are refused now.
UPDATE inventory.channel SET warehouses = warehouses;
UPDATE inventory.channel_sku SET version = version;

ALTER TABLE inventory.channel
    ALTER COLUMN version SET NOT NULL,
    ADD CONSTRAINT channel_version_even CHECK (version % 2 = 0);
ALTER TABLE inventory.channel_sku
    ALTER COLUMN version SET NOT NULL,
    ADD CONSTRAINT channel_sku_version_even CHECK (version % 2 = 0);
