-- Who changed stock and why, from the transaction that did: direct SQL cannot pass for an order.
-- depends: 0005_policy
--
-- Each of `reason`, `reference` and `caused_by` is what the statement gives it; where it does not
-- name the column, what the transaction has said (`SET LOCAL stockwire.reason = 'order'`); else
-- 'unattributed' and nulls. A row's earlier attribution is never kept for a change that it does
-- not belong to. DEFAULT stands for "not named", and so does an empty setting.
--
-- A MERGE names for each of its branches what any of them names: name all three in each.
--
-- A delete has no row to carry this. To say why a row goes, say it with the row's last change in
-- the same transaction, and then delete:
--     UPDATE inventory.stock SET on_hand = 0, reserved = 0, reason = 'discontinued' WHERE …;
--     DELETE FROM inventory.stock WHERE …;

CREATE FUNCTION inventory.said(what text) RETURNS text LANGUAGE sql STABLE
    -- After a SET LOCAL has ended, the setting is empty and not missing.
    RETURN nullif(current_setting('stockwire.' || what, true), '');

ALTER TABLE inventory.stock
    ALTER COLUMN reason SET DEFAULT coalesce(inventory.said('reason'), 'unattributed'),
    ALTER COLUMN reference SET DEFAULT inventory.said('reference'),
    ALTER COLUMN caused_by SET DEFAULT inventory.said('caused_by');

-- An update that gives a column the value it had looks like one that does not name it. Triggers
-- `OF` a column know the difference: they leave a mark for `stamp`, which fires after them, since
-- triggers fire in the order of their names. The mark is added to `version`, that `stamp` replaces.
CREATE FUNCTION inventory.attribute_named() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := NEW.version + TG_ARGV[0]::bigint;
    RETURN NEW;
END
$$;

CREATE FUNCTION inventory.attribute_unmarked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version;
    RETURN NEW;
END
$$;

CREATE TRIGGER attribute_0 BEFORE UPDATE OF version ON inventory.stock
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version)
    EXECUTE FUNCTION inventory.attribute_unmarked();
CREATE TRIGGER attribute_1 BEFORE UPDATE OF reason ON inventory.stock
    FOR EACH ROW WHEN (NEW.reason IS NOT DISTINCT FROM OLD.reason)
    EXECUTE FUNCTION inventory.attribute_named(1);
CREATE TRIGGER attribute_2 BEFORE UPDATE OF reference ON inventory.stock
    FOR EACH ROW WHEN (NEW.reference IS NOT DISTINCT FROM OLD.reference)
    EXECUTE FUNCTION inventory.attribute_named(2);
CREATE TRIGGER attribute_3 BEFORE UPDATE OF caused_by ON inventory.stock
    FOR EACH ROW WHEN (NEW.caused_by IS NOT DISTINCT FROM OLD.caused_by)
    EXECUTE FUNCTION inventory.attribute_named(4);

CREATE OR REPLACE FUNCTION inventory.stamp_stock() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        named := NEW.version - OLD.version;
        IF named & 1 = 0 AND NEW.reason IS NOT DISTINCT FROM OLD.reason THEN
            NEW.reason := coalesce(inventory.said('reason'), 'unattributed');
        END IF;
        IF named & 2 = 0 AND NEW.reference IS NOT DISTINCT FROM OLD.reference THEN
            NEW.reference := inventory.said('reference');
        END IF;
        IF named & 4 = 0 AND NEW.caused_by IS NOT DISTINCT FROM OLD.caused_by THEN
            NEW.caused_by := inventory.said('caused_by');
        END IF;
    END IF;
    NEW.version := nextval('inventory.stock_version'::regclass);
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- Drawing another version is no change of its own: it keeps what the statement has said.
CREATE OR REPLACE FUNCTION inventory.overtake_stock_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    -- Above READ COMMITTED the snapshot may hide the marker: draw again in any case.
    IF current_setting('transaction_isolation') <> 'read committed' OR EXISTS (
        SELECT FROM inventory.stock_deletion d
        WHERE d.sku = NEW.sku AND d.warehouse = NEW.warehouse AND d.version > NEW.version
    ) THEN
        UPDATE inventory.stock s
        SET reason = s.reason, reference = s.reference, caused_by = s.caused_by
        WHERE s.sku = NEW.sku AND s.warehouse = NEW.warehouse;
    END IF;
    RETURN NULL;
END
$$;

-- What an update costs has grown: these look at it only when it names a part of the key.
DROP TRIGGER mark_departure ON inventory.stock;
DROP TRIGGER overtake_at_arrival ON inventory.stock;

CREATE TRIGGER mark_departure AFTER UPDATE OF sku, warehouse ON inventory.stock
    FOR EACH ROW WHEN ((OLD.sku, OLD.warehouse) IS DISTINCT FROM (NEW.sku, NEW.warehouse))
    EXECUTE FUNCTION inventory.mark_stock_deletion();

CREATE TRIGGER overtake_at_arrival AFTER UPDATE OF sku, warehouse ON inventory.stock
    FOR EACH ROW WHEN ((OLD.sku, OLD.warehouse) IS DISTINCT FROM (NEW.sku, NEW.warehouse))
    EXECUTE FUNCTION inventory.overtake_stock_deletion();
