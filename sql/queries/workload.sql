-- What the load generator runs, as the application's role.

-- One business transaction: all of its rows change, or none does.
-- Refused (no row changes) when a row is missing or would hold less than is reserved.
-- Rows are locked in key order, so that two of these never deadlock.
-- name: move_stock
WITH line AS (
    SELECT *
    FROM unnest(%(sku)s::text[], %(warehouse)s::text[], %(on_hand)s::int[], %(reserved)s::int[])
        AS line (sku, warehouse, on_hand, reserved)
), wanted AS (
    SELECT s.sku, s.warehouse, s.on_hand + line.on_hand AS on_hand,
        s.reserved + line.reserved AS reserved
    FROM inventory.stock s JOIN line USING (sku, warehouse)
    ORDER BY s.sku, s.warehouse
    FOR NO KEY UPDATE OF s
), verdict AS (
    SELECT count(*) = cardinality(%(sku)s::text[])
        AND bool_and(reserved >= 0 AND on_hand >= reserved) AS granted
    FROM wanted
)
UPDATE inventory.stock s
SET on_hand = wanted.on_hand, reserved = wanted.reserved,
    reason = %(reason)s, reference = %(reference)s, caused_by = 'workload'
FROM wanted
WHERE s.sku = wanted.sku AND s.warehouse = wanted.warehouse
    AND (SELECT granted FROM verdict)

-- name: seed_warehouses
INSERT INTO inventory.warehouse (code, name)
SELECT code, 'Warehouse ' || code FROM unnest(%(warehouses)s::text[]) AS code
ON CONFLICT DO NOTHING

-- Quantities follow from the seed and the key alone; rows that exist are left as they are.
-- name: seed_stock
INSERT INTO inventory.stock (sku, warehouse, on_hand, safety_stock, reason, reference, caused_by)
SELECT sku, warehouse, 500 + (hash & 511), (hash >> 9) & 7, 'seed', 'SEED', 'workload'
FROM unnest(%(skus)s::text[]) AS sku
    CROSS JOIN unnest(%(warehouses)s::text[]) AS warehouse
    CROSS JOIN hashtextextended(sku || '|' || warehouse, %(seed)s::bigint) AS hash
WHERE NOT EXISTS (
    SELECT FROM inventory.stock s WHERE s.sku = sku.sku AND s.warehouse = warehouse.warehouse
)
ORDER BY sku, warehouse
ON CONFLICT DO NOTHING

-- One transaction over many rows: the first ones in key order.
-- name: bulk_update
WITH first AS (
    SELECT sku, warehouse FROM inventory.stock
    ORDER BY sku, warehouse
    LIMIT %(rows)s
    FOR NO KEY UPDATE
)
UPDATE inventory.stock s
SET on_hand = s.on_hand + 1, reason = 'recount', reference = %(reference)s, caused_by = 'workload'
FROM first
WHERE s.sku = first.sku AND s.warehouse = first.warehouse

-- A sale of one SKU begins: so many units in each of its warehouses, none of them held back.
-- name: open_sale
UPDATE inventory.stock
SET on_hand = reserved + %(units)s, safety_stock = 0,
    reason = 'receipt', reference = %(reference)s, caused_by = 'workload'
WHERE sku = %(sku)s
