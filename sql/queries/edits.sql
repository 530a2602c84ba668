-- What the demo and the benchmarks edit, as the application's role.

-- The buffer that a channel had before, and the version of its row now; no row without the channel.
-- name: set_buffer
UPDATE inventory.channel c
SET buffer = %(buffer)s
FROM (
    SELECT name, buffer FROM inventory.channel WHERE name = %(channel)s FOR NO KEY UPDATE
) AS earlier
WHERE c.name = earlier.name
RETURNING earlier.buffer, c.version

-- name: count_skus
SELECT count(DISTINCT sku) FROM inventory.stock
