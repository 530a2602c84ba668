-- What the benchmark of reservations runs beside them, as the application's role.

-- name: bench_open
UPDATE inventory.stock
SET on_hand = %(units)s, safety_stock = 0, reason = 'receipt', reference = 'BENCH', caused_by = 'bench'
WHERE sku = ANY (%(skus)s::text[]) AND warehouse = %(warehouse)s AND on_hand <> %(units)s

-- Rows whose reserved units are not those of their live holds.
-- name: bench_wrong
SELECT s.sku, s.warehouse, s.reserved, coalesce(held.units, 0)
FROM inventory.stock s
LEFT JOIN (
    SELECT l.sku, l.warehouse, sum(l.quantity) AS units
    FROM inventory.reservation_line l JOIN inventory.reservation r ON r.id = l.reservation
    WHERE r.status = 'held'
    GROUP BY l.sku, l.warehouse
) AS held USING (sku, warehouse)
WHERE s.warehouse = %(warehouse)s AND s.reserved <> coalesce(held.units, 0)
