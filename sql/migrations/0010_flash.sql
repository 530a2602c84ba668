-- Flash sales: units of one hot row that Redis hands out, after Postgres has set them aside.
-- depends: 0009_reservations
--
-- A sale's part of `reserved` of its row of stock is `allotted - confirmed - returned`: what is held,
-- and what is not sold yet. So Redis has nothing to hand out that is not reserved already.

CREATE TABLE inventory.flash_sale (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text NOT NULL,
    warehouse text NOT NULL,
    caller text NOT NULL CHECK (char_length(caller) BETWEEN 1 AND 200),
    reference text NOT NULL CHECK (char_length(reference) BETWEEN 1 AND 200),
    stock_version bigint NOT NULL,
    allotted integer NOT NULL CHECK (allotted > 0),
    held integer NOT NULL DEFAULT 0 CHECK (held >= 0),
    confirmed integer NOT NULL DEFAULT 0 CHECK (confirmed >= 0),
    returned integer NOT NULL DEFAULT 0 CHECK (returned >= 0),
    epoch bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    -- The last word against overselling, whatever Redis and the workers believe.
    CONSTRAINT flash_sale_not_oversold CHECK (held + confirmed + returned <= allotted),
    CONSTRAINT flash_sale_closed
        CHECK (closed_at IS NULL OR held + confirmed + returned = allotted)
);

COMMENT ON COLUMN inventory.flash_sale.stock_version IS 'Of the row of stock, with the allotment';
COMMENT ON COLUMN inventory.flash_sale.held IS 'Units of settled reservations that are live';
COMMENT ON COLUMN inventory.flash_sale.returned IS 'Units that are free again';
COMMENT ON COLUMN inventory.flash_sale.epoch IS
    'Which life of the counter in Redis counts: each rebuild begins another';
COMMENT ON COLUMN inventory.flash_sale.sequence IS
    'The highest number of a settled grant: a counter that knows of fewer has lost some';

-- Keys in Redis are of the SKU: one sale of it at a time.
CREATE UNIQUE INDEX flash_sale_open ON inventory.flash_sale (sku) WHERE closed_at IS NULL;
CREATE INDEX flash_sale_latest ON inventory.flash_sale (sku, id);

-- A settled grant. It outlives the idempotency key: Redis is told again who has been answered.
CREATE TABLE inventory.flash_hold (
    reservation uuid PRIMARY KEY REFERENCES inventory.reservation (id) ON DELETE CASCADE,
    sale bigint NOT NULL REFERENCES inventory.flash_sale (id),
    key text NOT NULL,
    request bytea NOT NULL,
    sequence bigint NOT NULL,
    -- Where the units went, once it has ended: they are sold, free, or back in the sale.
    ended text CHECK (ended IN ('sold', 'freed', 'back'))
);

CREATE INDEX flash_hold_sale ON inventory.flash_hold (sale);
CREATE INDEX flash_hold_live ON inventory.flash_hold (sale) WHERE ended IS NULL;

-- A hold may also be ended as any other reservation is. What it holds is then sold or free, as its row
-- of stock says; the sale counts it so, and does not get it back. `reservations.flash` gives units
-- back to the sale: it ends the hold first, and this finds nothing to do.
CREATE FUNCTION inventory.count_flash_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH ended AS (
        UPDATE inventory.flash_hold
        SET ended = CASE NEW.status WHEN 'confirmed' THEN 'sold' ELSE 'freed' END
        WHERE reservation = NEW.id AND ended IS NULL
        RETURNING sale, (
            SELECT sum(l.quantity)::integer FROM inventory.reservation_line l
            WHERE l.reservation = NEW.id
        ) AS units
    )
    UPDATE inventory.flash_sale s
    SET held = s.held - ended.units,
        confirmed = s.confirmed + CASE NEW.status WHEN 'confirmed' THEN ended.units ELSE 0 END,
        returned = s.returned + CASE NEW.status WHEN 'confirmed' THEN 0 ELSE ended.units END
    FROM ended WHERE s.id = ended.sale;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_flash_hold AFTER UPDATE OF status ON inventory.reservation
    FOR EACH ROW WHEN (OLD.strategy = 'redis' AND OLD.status = 'held' AND NEW.status <> 'held')
    EXECUTE FUNCTION inventory.count_flash_hold();

GRANT SELECT, INSERT, UPDATE ON inventory.flash_sale, inventory.flash_hold TO stockwire_app;
