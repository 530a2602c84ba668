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

-- Holds that are due one after the other, spread over SKUs.
-- name: bench_hold
WITH hold AS (
    SELECT gen_random_uuid() AS id,
        (%(skus)s::text[])[1 + mod(n, cardinality(%(skus)s::text[]))] AS sku,
        statement_timestamp() + make_interval(
            secs => %(lead)s::float8 + n * %(seconds)s::float8 / %(holds)s) AS held_until
    FROM generate_series(0, %(holds)s::int - 1) AS n
), made AS (
    INSERT INTO inventory.reservation (id, caller, reference, strategy, held_until)
    SELECT id, 'bench', %(reference)s, 'optimistic', held_until FROM hold
), lined AS (
    INSERT INTO inventory.reservation_line (reservation, sku, warehouse, quantity)
    SELECT id, sku, %(warehouse)s, 1 FROM hold
)
UPDATE inventory.stock s
SET reserved = s.reserved + held.units, reason = 'reserve', reference = 'BENCH', caused_by = 'bench'
FROM (SELECT sku, count(*) AS units FROM hold GROUP BY sku) AS held
WHERE s.sku = held.sku AND s.warehouse = %(warehouse)s

-- By how many ms the longest is late of those that are due and still held.
-- name: bench_overdue
SELECT coalesce(1000 * extract(epoch FROM clock_timestamp() - min(held_until)), 0)::float8
FROM inventory.reservation
WHERE status = 'held' AND held_until <= statement_timestamp()

-- How many have expired, and by how many ms they were late: 99 of 100, and all.
-- name: bench_lateness
SELECT count(*), percentile_cont(0.99) WITHIN GROUP (ORDER BY late), max(late)
FROM (
    SELECT (1000 * extract(epoch FROM closed_at - held_until))::float8 AS late
    FROM inventory.reservation
    WHERE caller = 'bench' AND reference = %(reference)s AND status = 'expired'
) AS expired
