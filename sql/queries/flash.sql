-- Flash sales (`reservations.flash`), as the application's role. Locks are taken in one order:
-- reservations, the row of stock, the sale.

-- No row: another sale of the SKU is open. A SKU's epochs only rise, from sale to sale.
-- name: flash_open
INSERT INTO inventory.flash_sale
    (sku, warehouse, caller, reference, stock_version, allotted, epoch)
SELECT %(sku)s, %(warehouse)s, %(caller)s, %(reference)s, 0, %(units)s, coalesce(max(epoch), 0)
FROM inventory.flash_sale WHERE sku = %(sku)s
ON CONFLICT (sku) WHERE closed_at IS NULL DO NOTHING
RETURNING id

-- name: flash_allot
WITH allotment AS (
    UPDATE inventory.stock SET reserved = reserved + %(units)s,
        reason = 'reserve', reference = %(reference)s, caused_by = %(caller)s
    WHERE sku = %(sku)s AND warehouse = %(warehouse)s
        AND on_hand - reserved - safety_stock >= %(units)s
    RETURNING version
)
UPDATE inventory.flash_sale SET stock_version = allotment.version
FROM allotment WHERE id = %(sale)s
RETURNING id

-- name: flash_free_units
SELECT greatest(0, on_hand - reserved - safety_stock)::integer AS units FROM inventory.stock
WHERE sku = %(sku)s AND warehouse = %(warehouse)s

-- name: flash_latest
SELECT id, sku, warehouse, caller, reference, stock_version, allotted, held, confirmed, returned,
    epoch, sequence, closed_at IS NOT NULL AS closed
FROM inventory.flash_sale WHERE sku = %(sku)s ORDER BY id DESC LIMIT 1

-- Those that Redis may sell, and for a while those that it may sell no more.
-- name: flash_current
SELECT id, sku, warehouse, caller, reference, stock_version, allotted, held, confirmed, returned,
    epoch, sequence, closed_at IS NOT NULL AS closed
FROM inventory.flash_sale s
WHERE closed_at IS NULL OR (
    closed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    AND NOT EXISTS (
        SELECT FROM inventory.flash_sale later WHERE later.sku = s.sku AND later.id > s.id
    )
)
ORDER BY id

-- name: flash_lock
SELECT id, sku, warehouse, caller, reference, stock_version, allotted, held, confirmed, returned,
    epoch, sequence, closed_at IS NOT NULL AS closed
FROM inventory.flash_sale WHERE id = %(sale)s FOR NO KEY UPDATE

-- name: flash_sale_of
SELECT s.sku, s.id
FROM inventory.flash_hold h JOIN inventory.flash_sale s ON s.id = h.sale
WHERE h.reservation = %(reservation)s

-- name: flash_raise_epoch
UPDATE inventory.flash_sale SET epoch = %(epoch)s WHERE id = %(sale)s

-- name: flash_known
SELECT reservation FROM inventory.flash_hold WHERE reservation = ANY(%(reservations)s)

-- name: flash_units
SELECT coalesce(sum(l.quantity), 0)::integer
FROM inventory.reservation_line l JOIN inventory.reservation r ON r.id = l.reservation
WHERE r.id = ANY(%(reservations)s) AND r.status = 'held'

-- Where the units of settled holds are; null for those that are live.
-- name: flash_ended
SELECT reservation, ended FROM inventory.flash_hold WHERE reservation = ANY(%(reservations)s)

-- The keys that nobody had used.
-- name: flash_take_keys
INSERT INTO inventory.idempotency_key (caller, key, request, answer)
SELECT caller, key, request, answer
FROM unnest(%(callers)s::text[], %(keys)s::text[], %(requests)s::bytea[], %(answers)s::jsonb[])
    AS taken (caller, key, request, answer)
ORDER BY caller, key
ON CONFLICT DO NOTHING
RETURNING caller, key

-- Grants are held in Postgres too, and told; `reserved` has their units already.
-- name: flash_settle
WITH granted AS (
    SELECT * FROM unnest(
        %(reservations)s::uuid[], %(callers)s::text[], %(keys)s::text[], %(references)s::text[],
        %(requests)s::bytea[], %(quantities)s::int[], %(sequences)s::bigint[],
        %(held_until)s::timestamptz[], %(payloads)s::bytea[]
    ) AS granted (
        id, caller, key, reference, request, quantity, sequence, held_until, payload)
), reserved AS (
    INSERT INTO inventory.reservation (id, caller, reference, strategy, held_until)
    SELECT id, caller, reference, 'redis', held_until FROM granted
), lines AS (
    INSERT INTO inventory.reservation_line (reservation, sku, warehouse, quantity)
    SELECT id, %(sku)s, %(warehouse)s, quantity FROM granted
), holds AS (
    INSERT INTO inventory.flash_hold (reservation, sale, key, request, sequence)
    SELECT id, %(sale)s, key, request, sequence FROM granted
), told AS (
    INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'reservation', id::text, 'inventory.reserved', payload FROM granted
)
UPDATE inventory.flash_sale s
SET held = s.held + total.quantity, sequence = greatest(s.sequence, total.sequence)
FROM (SELECT sum(quantity)::integer AS quantity, max(sequence) AS sequence FROM granted) AS total
WHERE s.id = %(sale)s

-- The holds of a sale that are live, for the rebuild of its counter.
-- name: flash_live_holds
SELECT r.id, r.held_until, l.quantity, h.sequence, r.caller, h.key, r.reference, h.request
FROM inventory.flash_hold h
    JOIN inventory.reservation r ON r.id = h.reservation
    JOIN inventory.reservation_line l ON l.reservation = h.reservation
WHERE h.sale = %(sale)s AND h.ended IS NULL

-- Everybody who was answered, in this sale and earlier ones of the SKU.
-- name: flash_answered
SELECT r.caller, h.key, h.request, h.reservation, r.held_until, s.stock_version, s.warehouse
FROM inventory.flash_sale s
    JOIN inventory.flash_hold h ON h.sale = s.id
    JOIN inventory.reservation r ON r.id = h.reservation
    JOIN inventory.idempotency_key k ON k.caller = r.caller AND k.key = h.key
WHERE s.sku = %(sku)s

-- Holds that are due and that no other worker has in hand, of one sale.
-- name: flash_due
SELECT r.id FROM inventory.reservation r JOIN inventory.flash_hold h ON h.reservation = r.id
WHERE h.sale = %(sale)s AND h.ended IS NULL AND r.status = 'held' AND r.held_until <= statement_timestamp()
ORDER BY r.held_until
LIMIT %(limit)s
FOR NO KEY UPDATE OF r SKIP LOCKED

-- name: flash_sales_due
SELECT DISTINCT h.sale
FROM inventory.reservation r JOIN inventory.flash_hold h ON h.reservation = r.id
WHERE r.status = 'held' AND h.ended IS NULL AND r.held_until <= statement_timestamp()
ORDER BY h.sale

-- name: flash_lock_reservation
SELECT id FROM inventory.reservation WHERE id = %(reservation)s FOR NO KEY UPDATE

-- The sale of a hold that is live, unless the key has been answered.
-- name: flash_release_view
SELECT h.sale FROM inventory.flash_hold h
WHERE h.reservation = %(reservation)s AND h.ended IS NULL AND NOT EXISTS (
    SELECT FROM inventory.idempotency_key k WHERE k.caller = %(caller)s AND k.key = %(key)s
)

-- name: flash_lock_stock
SELECT s.version FROM inventory.stock s JOIN inventory.flash_sale f USING (sku, warehouse)
WHERE f.id = %(sale)s
FOR NO KEY UPDATE OF s

-- name: flash_end_holds
UPDATE inventory.flash_hold SET ended = %(ended)s
WHERE reservation = ANY(%(reservations)s) AND ended IS NULL

-- Holds that have been ended just now: they are closed and told, and the sale has their units again,
-- or has returned them if it is closed itself. Without a key nobody waits for an answer.
-- name: flash_let_go
WITH closed AS (
    UPDATE inventory.reservation SET status = %(status)s, closed_at = clock_timestamp()
    WHERE id = ANY(%(reservations)s) AND status = 'held'
    RETURNING id, reference, closed_at
), part AS (
    SELECT closed.*, l.quantity, jsonb_build_array(jsonb_build_object(
        'sku', l.sku, 'warehouse', l.warehouse, 'quantity', l.quantity,
        'row_version', %(version)s::bigint)) AS units
    FROM closed JOIN inventory.reservation_line l ON l.reservation = closed.id
), told AS (
    INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'reservation', id::text, 'inventory.' || %(status)s, convert_to(
        jsonb_build_object('version', 1, 'occurred_at', closed_at, 'caller', %(caller)s::text,
            'reference', reference, 'reservation', id, 'units', units)::text, 'UTF8')
    FROM part
), kept AS (
    INSERT INTO inventory.idempotency_key (caller, key, request, answer)
    SELECT %(caller)s, %(key)s, %(request)s,
        jsonb_build_object('kind', 'closed', 'reservation', id, 'units', units)
    FROM part
    WHERE %(key)s::text IS NOT NULL
)
UPDATE inventory.flash_sale s
SET held = held - total.units,
    returned = returned + CASE WHEN s.closed_at IS NULL THEN 0 ELSE total.units END
FROM (SELECT coalesce(sum(quantity), 0)::integer AS units FROM part) AS total
WHERE s.id = %(sale)s

-- Units of a sale that is closed, or is being closed, are free again.
-- name: flash_free_stock
UPDATE inventory.stock s
SET reserved = s.reserved - %(units)s,
    reason = %(reason)s, reference = f.reference, caused_by = %(caller)s
FROM inventory.flash_sale f
WHERE f.id = %(sale)s AND s.sku = f.sku AND s.warehouse = f.warehouse
RETURNING s.version

-- name: flash_close
UPDATE inventory.flash_sale
SET returned = returned + %(returned)s, closed_at = clock_timestamp()
WHERE id = %(sale)s
