-- What the load's table looks at, as the application's role.

-- Rows that promise more than there is: more is reserved than on hand, or live holds have more than
-- is reserved for them, so that others may be sold the same units. What is asked for is neither of
-- the write side's own checks.
-- name: oversold
SELECT s.sku, s.warehouse, s.on_hand, s.reserved, coalesce(held.units, 0) AS held
FROM inventory.stock s
LEFT JOIN (
    SELECT l.sku, l.warehouse, sum(l.quantity) AS units
    FROM inventory.reservation r JOIN inventory.reservation_line l ON l.reservation = r.id
    WHERE r.status = 'held'
    GROUP BY l.sku, l.warehouse
) AS held USING (sku, warehouse)
WHERE s.reserved > s.on_hand OR held.units > s.reserved
ORDER BY s.sku, s.warehouse
