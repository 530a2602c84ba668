-- A row's versions only rise: the order in which downstream readers tell new from stale.
-- depends: 0001_schema

-- A clock reading rather than the transaction's start, which can be earlier than a change
-- that this one waited for.
CREATE FUNCTION inventory.stamp_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('inventory.stock_version'::regclass);
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- An update fires this while it holds the row's lock, so its version is the newest of that key.
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON inventory.stock
    FOR EACH ROW EXECUTE FUNCTION inventory.stamp_stock();

-- An insert does not: it draws its version, then waits for a transaction that holds the same key.
-- If that one updates and deletes the row, the insert that follows is older than the delete. A
-- primary-key change arrives at its new key in the same way. So deletes leave their version
-- behind, and whoever has arrived at a key, and holds it now, compares and draws again.
--
-- They run as the owner: nobody else may write the markers.
CREATE FUNCTION inventory.mark_stock_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO inventory.stock_deletion AS d (sku, warehouse, version)
    VALUES (OLD.sku, OLD.warehouse, OLD.version + 1)
    ON CONFLICT (sku, warehouse) DO UPDATE SET version = EXCLUDED.version;
    RETURN NULL;
END
$$;

CREATE FUNCTION inventory.overtake_stock_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    -- Above READ COMMITTED the snapshot may hide the marker: draw again in any case.
    IF current_setting('transaction_isolation') <> 'read committed' OR EXISTS (
        SELECT FROM inventory.stock_deletion d
        WHERE d.sku = NEW.sku AND d.warehouse = NEW.warehouse AND d.version > NEW.version
    ) THEN
        UPDATE inventory.stock s SET version = s.version
        WHERE s.sku = NEW.sku AND s.warehouse = NEW.warehouse;
    END IF;
    RETURN NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION inventory.mark_stock_deletion(), inventory.overtake_stock_deletion()
    FROM PUBLIC;

CREATE TRIGGER mark_deletion AFTER DELETE ON inventory.stock
    FOR EACH ROW EXECUTE FUNCTION inventory.mark_stock_deletion();

CREATE TRIGGER mark_departure AFTER UPDATE ON inventory.stock
    FOR EACH ROW WHEN ((OLD.sku, OLD.warehouse) IS DISTINCT FROM (NEW.sku, NEW.warehouse))
    EXECUTE FUNCTION inventory.mark_stock_deletion();

CREATE TRIGGER overtake_deletion AFTER INSERT ON inventory.stock
    FOR EACH ROW EXECUTE FUNCTION inventory.overtake_stock_deletion();

CREATE TRIGGER overtake_at_arrival AFTER UPDATE ON inventory.stock
    FOR EACH ROW WHEN ((OLD.sku, OLD.warehouse) IS DISTINCT FROM (NEW.sku, NEW.warehouse))
    EXECUTE FUNCTION inventory.overtake_stock_deletion();
