-- What the write side runs, as the application's role.
-- All of it locks in one order, so that nothing deadlocks: a reservation, then rows of stock by SKU
-- and warehouse, then a key. What decides about units runs before anything is locked (optimistic)
-- or behind the locks, in a statement of its own that sees what is there now (pessimistic).

-- Of a connection; one plan for baskets of any size.
-- name: reservation_session
SELECT set_config('application_name', %(name)s, false),
    set_config('statement_timeout', %(statement)s, false),
    set_config('idle_in_transaction_session_timeout', %(statement)s, false),
    set_config('lock_timeout', %(lock)s, false),
    set_config('default_transaction_read_only',
        CASE WHEN %(read_only)s THEN 'on' ELSE current_setting('default_transaction_read_only') END,
        false),
    set_config('plan_cache_mode', 'force_generic_plan', false)

-- The answer that stands under a key, and the rows of a basket; one row at least.
-- name: reserve_view
SELECT k.request, k.answer, s.sku, s.warehouse, s.on_hand - s.reserved - s.safety_stock, s.version
FROM (SELECT) AS once
LEFT JOIN inventory.idempotency_key k ON k.caller = %(caller)s AND k.key = %(key)s
LEFT JOIN inventory.stock s ON s.sku = ANY (%(skus)s::text[])
    AND (cardinality(%(warehouses)s::text[]) = 0 OR s.warehouse = ANY (%(warehouses)s::text[]))

-- name: reserve_patience
SELECT set_config('lock_timeout', %(lock)s, true)

-- name: reserve_lock
SELECT s.sku, s.warehouse, s.on_hand - s.reserved - s.safety_stock, s.version
FROM inventory.stock s
WHERE s.sku = ANY (%(skus)s::text[])
    AND (cardinality(%(warehouses)s::text[]) = 0 OR s.warehouse = ANY (%(warehouses)s::text[]))
ORDER BY s.sku, s.warehouse
FOR NO KEY UPDATE

-- name: reserve_lock_nowait
SELECT s.sku, s.warehouse, s.on_hand - s.reserved - s.safety_stock, s.version
FROM inventory.stock s
WHERE s.sku = ANY (%(skus)s::text[])
    AND (cardinality(%(warehouses)s::text[]) = 0 OR s.warehouse = ANY (%(warehouses)s::text[]))
ORDER BY s.sku, s.warehouse
FOR NO KEY UPDATE NOWAIT

-- name: reserve_lock_skip_locked
SELECT s.sku, s.warehouse, s.on_hand - s.reserved - s.safety_stock, s.version
FROM inventory.stock s
WHERE s.sku = ANY (%(skus)s::text[])
    AND (cardinality(%(warehouses)s::text[]) = 0 OR s.warehouse = ANY (%(warehouses)s::text[]))
ORDER BY s.sku, s.warehouse
FOR NO KEY UPDATE SKIP LOCKED

-- A basket is held, told and answered, if each row is as it was seen; else the statement fails with
-- serialization_failure, and nothing is done. The rows are locked in their order first: an UPDATE
-- takes them in the order of its plan, and two that have other plans, or whose rows have moved
-- meanwhile, would wait for each other. A row that has changed while it was waited for is left out.
-- name: reserve_take
WITH part AS (
    SELECT *
    FROM unnest(
        %(skus)s::text[], %(warehouses)s::text[], %(quantities)s::int[], %(versions)s::bigint[]
    ) AS part (sku, warehouse, quantity, version)
), locked AS (
    SELECT s.ctid AS place, part.quantity
    FROM part JOIN inventory.stock s ON s.sku = part.sku AND s.warehouse = part.warehouse
    WHERE s.version = part.version AND s.on_hand - s.reserved - s.safety_stock >= part.quantity
    ORDER BY s.sku, s.warehouse
    FOR NO KEY UPDATE OF s
), taken AS (
    UPDATE inventory.stock s
    SET reserved = s.reserved + locked.quantity,
        reason = 'reserve', reference = %(reference)s, caused_by = %(caller)s
    FROM locked
    WHERE s.ctid = locked.place
    RETURNING s.sku, s.warehouse, locked.quantity, s.version
), held AS (
    SELECT clock_timestamp() AS at,
        CASE WHEN count(*) = cardinality(%(skus)s::text[])
            THEN jsonb_agg(
                jsonb_build_object('sku', sku, 'warehouse', warehouse, 'quantity', quantity,
                    'row_version', version)
                ORDER BY sku, warehouse)
            ELSE inventory.overtaken() END AS units
    FROM taken
), made AS (
    INSERT INTO inventory.reservation (id, caller, reference, strategy, held_until, created_at)
    SELECT %(reservation)s, %(caller)s, %(reference)s, %(strategy)s,
        held.at + make_interval(secs => %(hold_seconds)s), held.at
    FROM held
    RETURNING held_until
), lined AS (
    INSERT INTO inventory.reservation_line (reservation, sku, warehouse, quantity)
    SELECT %(reservation)s, sku, warehouse, quantity FROM taken
), told AS (
    INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'reservation', %(reservation)s::text, 'inventory.reserved', convert_to(
        jsonb_build_object('version', 1, 'occurred_at', held.at, 'caller', %(caller)s::text,
            'reference', %(reference)s::text, 'reservation', %(reservation)s::uuid,
            'strategy', %(strategy)s::text, 'held_until', made.held_until, 'units', held.units
        )::text, 'UTF8')
    FROM held, made
)
INSERT INTO inventory.idempotency_key (caller, key, request, answer)
SELECT %(caller)s, %(key)s, %(request)s,
    jsonb_build_object('kind', 'granted', 'reservation', %(reservation)s::uuid,
        'held_until', made.held_until, 'units', held.units)
FROM held, made
RETURNING answer

-- A refusal is an answer too. It is told, where there is an event to tell it by.
-- name: refuse
WITH told AS (
    INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
    SELECT %(aggregatetype)s, %(aggregateid)s, %(type)s, %(payload)s
    WHERE %(type)s::text IS NOT NULL
)
INSERT INTO inventory.idempotency_key (caller, key, request, answer)
VALUES (%(caller)s, %(key)s, %(request)s, %(answer)s::jsonb)

-- name: outbox_add
INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
VALUES (%(aggregatetype)s, %(aggregateid)s, %(type)s, %(payload)s)

-- name: idempotency_kept
SELECT request, answer FROM inventory.idempotency_key WHERE caller = %(caller)s AND key = %(key)s

-- name: idempotency_keep
INSERT INTO inventory.idempotency_key (caller, key, request, answer)
VALUES (%(caller)s, %(key)s, %(request)s, %(answer)s::jsonb)

-- name: closing_lock
SELECT FROM inventory.reservation WHERE id = %(reservation)s FOR NO KEY UPDATE

-- What many reservations hold, while nobody else changes it.
-- name: closing_lock_stock
SELECT FROM inventory.stock s
WHERE (s.sku, s.warehouse) IN (
    SELECT l.sku, l.warehouse FROM inventory.reservation_line l
    WHERE l.reservation = ANY (%(reservations)s::uuid[])
)
ORDER BY s.sku, s.warehouse
FOR NO KEY UPDATE

-- Behind the locks: the answer that stands under a key, the reservation, and its rows; one at least.
-- name: closing_view
SELECT k.request, k.answer, r.status, r.held_until <= clock_timestamp(),
    l.sku, l.warehouse, l.quantity, s.on_hand, s.version
FROM (SELECT) AS once
LEFT JOIN inventory.idempotency_key k ON k.caller = %(caller)s AND k.key = %(key)s
LEFT JOIN inventory.reservation r ON r.id = %(reservation)s
LEFT JOIN inventory.reservation_line l ON l.reservation = r.id
LEFT JOIN inventory.stock s ON s.sku = l.sku AND s.warehouse = l.warehouse
ORDER BY l.sku, l.warehouse

-- A held reservation ends and is told; its rows are locked. Without a key nobody waits for an answer.
-- A row that was removed, or whose `reserved` was set by hand, must not keep the rest from ending.
-- name: reservation_close
WITH closed AS (
    UPDATE inventory.reservation
    SET status = %(status)s, closed_at = clock_timestamp()
    WHERE id = %(reservation)s AND status = 'held'
    RETURNING id, reference, closed_at
), changed AS (
    UPDATE inventory.stock s
    SET on_hand = s.on_hand - CASE WHEN %(status)s = 'confirmed' THEN l.quantity ELSE 0 END,
        reserved = greatest(s.reserved - l.quantity, 0),
        reason = %(reason)s, reference = closed.reference, caused_by = %(caller)s
    FROM closed JOIN inventory.reservation_line l ON l.reservation = closed.id
    WHERE s.sku = l.sku AND s.warehouse = l.warehouse
    RETURNING s.sku, s.warehouse, l.quantity, s.version
), rows AS (
    SELECT coalesce(
        jsonb_agg(
            jsonb_build_object('sku', sku, 'warehouse', warehouse, 'quantity', quantity,
                'row_version', version)
            ORDER BY sku, warehouse),
        '[]') AS units
    FROM changed
), told AS (
    INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'reservation', %(reservation)s::text, 'inventory.' || %(status)s, convert_to(
        jsonb_build_object('version', 1, 'occurred_at', closed.closed_at,
            'caller', %(caller)s::text, 'reference', closed.reference,
            'reservation', closed.id, 'units', rows.units)::text, 'UTF8')
    FROM closed, rows
), answer AS (
    SELECT jsonb_build_object('kind', 'closed', 'reservation', closed.id, 'units', rows.units)
        AS answer
    FROM closed, rows
), kept AS (
    INSERT INTO inventory.idempotency_key (caller, key, request, answer)
    SELECT %(caller)s, %(key)s, %(request)s, answer.answer FROM answer
    WHERE %(key)s::text IS NOT NULL
)
SELECT answer FROM answer

-- Holds that are due and that no other worker has in hand, the longest due first. Those of flash
-- sales end otherwise (`flash_due`): their units go back to the sale.
-- name: expiry_due
SELECT id FROM inventory.reservation
WHERE status = 'held' AND held_until <= statement_timestamp() AND strategy <> 'redis'
ORDER BY held_until
LIMIT %(rows)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: movement_lock
SELECT s.warehouse, s.on_hand - s.reserved AS free
FROM inventory.stock s
WHERE s.sku = %(sku)s AND s.warehouse = ANY (%(warehouses)s::text[])
ORDER BY s.sku, s.warehouse
FOR NO KEY UPDATE

-- name: movement_adjust
UPDATE inventory.stock s
SET on_hand = s.on_hand + %(delta)s, reason = %(reason)s, reference = %(reference)s,
    caused_by = %(caller)s
WHERE s.sku = %(sku)s AND s.warehouse = %(warehouse)s
RETURNING s.on_hand, s.version, s.updated_at

-- The row of a warehouse that had none of the SKU is made; no row for a warehouse that there is not.
-- name: movement_receive
INSERT INTO inventory.stock AS s (sku, warehouse, on_hand, reason, reference, caused_by)
SELECT %(sku)s, code, %(delta)s, %(reason)s, %(reference)s, %(caller)s
FROM inventory.warehouse WHERE code = %(warehouse)s
ON CONFLICT (sku, warehouse) DO UPDATE
SET on_hand = s.on_hand + EXCLUDED.on_hand, reason = EXCLUDED.reason,
    reference = EXCLUDED.reference, caused_by = EXCLUDED.caused_by
RETURNING s.on_hand, s.version, s.updated_at

-- name: mark_processed
INSERT INTO inventory.processed_event (event_id, consumer)
VALUES (%(event_id)s, %(consumer)s)
ON CONFLICT DO NOTHING

-- name: clean_idempotency_keys
WITH old AS (
    SELECT caller, key FROM inventory.idempotency_key
    WHERE created_at < statement_timestamp() - make_interval(secs => %(seconds)s)
    ORDER BY created_at
    LIMIT %(rows)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM inventory.idempotency_key k
USING old WHERE k.caller = old.caller AND k.key = old.key

-- name: clean_processed_events
WITH old AS (
    SELECT event_id, consumer FROM inventory.processed_event
    WHERE processed_at < statement_timestamp() - make_interval(secs => %(seconds)s)
    ORDER BY processed_at
    LIMIT %(rows)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM inventory.processed_event p
USING old WHERE p.event_id = old.event_id AND p.consumer = old.consumer
