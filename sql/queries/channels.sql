-- Channels, their policies, and what a SKU has of its own; as the application's role.

-- name: channel_policies
SELECT name, kind, topic, warehouses, buffer, share, low_stock_threshold, low_stock_hysteresis,
    priority, max_per_order, backorder_limit, blocked, echo_of, version
FROM inventory.channel
ORDER BY name

-- name: channel_overrides
SELECT channel, sku, buffer, share, low_stock_threshold, low_stock_hysteresis, max_per_order,
    backorder_limit, ring_fence, blocked, version
FROM inventory.channel_sku

-- Through the channels: the primary key begins with them.
-- name: channel_overrides_of_sku
SELECT o.channel, o.sku, o.buffer, o.share, o.low_stock_threshold, o.low_stock_hysteresis,
    o.max_per_order, o.backorder_limit, o.ring_fence, o.blocked, o.version
FROM inventory.channel c JOIN inventory.channel_sku o ON o.channel = c.name
WHERE o.sku = %(sku)s
ORDER BY o.channel

-- A date that Python cannot hold comes as null.
-- name: stock_of_sku
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END AS incoming_at,
    version, updated_at, reason, reference, caused_by
FROM inventory.stock
WHERE sku = %(sku)s
ORDER BY warehouse

-- Warehouses in order of their priority; null means all.
-- name: add_channel
INSERT INTO inventory.channel (name, kind, topic, warehouses)
VALUES (%(name)s, %(kind)s, %(topic)s, %(warehouses)s::text[])
RETURNING version

-- The removed row, with the version that its removal counts as; no row if there was none. What
-- SKUs had of their own there goes with it.
-- name: remove_channel
DELETE FROM inventory.channel
WHERE name = %(name)s
RETURNING kind, topic, version + 1 AS version
