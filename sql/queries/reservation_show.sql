-- A reservation to look at, as the application's role.

-- name: show_reservation
SELECT id, caller, reference, strategy, status, held_until, created_at, closed_at
FROM inventory.reservation WHERE id = %(reservation)s

-- name: show_reservation_lines
SELECT sku, warehouse, quantity FROM inventory.reservation_line
WHERE reservation = %(reservation)s
ORDER BY sku, warehouse
