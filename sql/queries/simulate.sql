-- What the simulator of a rush runs, as the application's role.

-- name: simulate_warehouse
INSERT INTO inventory.warehouse (code, name) VALUES (%(warehouse)s, 'Simulated')
ON CONFLICT DO NOTHING

-- name: simulate_open
INSERT INTO inventory.stock (sku, warehouse, on_hand, reason, reference, caused_by)
VALUES (%(sku)s, %(warehouse)s, %(units)s, 'receipt', 'SIMULATION', 'simulate')

-- name: simulate_left
SELECT on_hand, reserved FROM inventory.stock WHERE sku = %(sku)s AND warehouse = %(warehouse)s

-- name: simulate_forget_keys
DELETE FROM inventory.idempotency_key WHERE caller = %(caller)s

-- A sale stays in the books: what it held is free again.
-- name: simulate_forget_holds
UPDATE inventory.flash_sale SET returned = returned + held, held = 0
WHERE sku = %(sku)s AND held > 0

-- name: simulate_forget_reservations
DELETE FROM inventory.reservation WHERE caller = %(caller)s

-- name: simulate_close
DELETE FROM inventory.stock WHERE sku = %(sku)s

-- How not to do it: what is read here may be long gone when it is written below.
-- name: naive_read
SELECT reserved, on_hand - reserved - safety_stock AS free
FROM inventory.stock WHERE sku = %(sku)s AND warehouse = %(warehouse)s

-- name: naive_write
UPDATE inventory.stock
SET reserved = %(reserved)s, reason = 'reserve', reference = %(reference)s, caused_by = 'naive'
WHERE sku = %(sku)s AND warehouse = %(warehouse)s
