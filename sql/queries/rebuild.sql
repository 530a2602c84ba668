-- What a rebuild of the projection reads of Postgres, as the application's role.

-- SKUs that divide the stock into parts of about one size.
-- name: rebuild_bounds
SELECT DISTINCT unnest(percentile_disc(%(fractions)s::float8[]) WITHIN GROUP (ORDER BY sku)) AS sku
FROM inventory.stock
ORDER BY sku

-- How many rows there are to be read.
-- name: rebuild_count
SELECT count(*) FROM inventory.stock

-- The next rows of a part, in key order. A date that Python cannot hold cannot be projected either.
-- name: rebuild_rows
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END,
    version, (extract(epoch FROM updated_at) * 1000000)::bigint
FROM inventory.stock
WHERE sku > %(after)s AND (%(upto)s::text IS NULL OR sku <= %(upto)s::text)
ORDER BY sku, warehouse
LIMIT %(rows)s

-- name: rebuild_rows_of
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END,
    version, (extract(epoch FROM updated_at) * 1000000)::bigint
FROM inventory.stock
WHERE sku = ANY (%(skus)s::text[])

-- The columns of channel_overrides, and when the row was last changed. Through the channels: the
-- primary key begins with them.
-- name: rebuild_overrides_of
SELECT o.channel, o.sku, o.buffer, o.share, o.low_stock_threshold, o.low_stock_hysteresis,
    o.max_per_order, o.backorder_limit, o.ring_fence, o.blocked, o.version,
    (extract(epoch FROM o.updated_at) * 1000000)::bigint
FROM inventory.channel c JOIN inventory.channel_sku o ON o.channel = c.name
WHERE o.sku = ANY (%(skus)s::text[])
