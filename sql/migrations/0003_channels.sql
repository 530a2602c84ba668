-- The four default channels, and the time of a policy's last change.
-- depends: 0001_schema

CREATE FUNCTION inventory.stamp_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON inventory.channel
    FOR EACH ROW EXECUTE FUNCTION inventory.stamp_policy();

CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON inventory.channel_sku
    FOR EACH ROW EXECUTE FUNCTION inventory.stamp_policy();

INSERT INTO inventory.channel (name, kind, topic) VALUES
    ('web', 'availability', 'stock.web.v1'),
    ('app', 'availability', 'stock.app.v1'),
    ('wms', 'level', 'stock.wms.v1'),
    ('erp', 'movement', 'stock.erp.v1');
