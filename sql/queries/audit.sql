-- What the auditor compares with everything else, as the application's role.

-- A date that Python cannot hold cannot be projected either.
-- name: audit_stock
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END,
    version, (extract(epoch FROM updated_at) * 1000000)::bigint, caused_by
FROM inventory.stock

-- name: audit_latest_change
SELECT sku, warehouse, version FROM inventory.stock ORDER BY version DESC LIMIT 1

-- Whole SKUs after the one given, at most so many of them, in the order of the primary key.
-- name: audit_page
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END,
    version, (extract(epoch FROM updated_at) * 1000000)::bigint, caused_by
FROM inventory.stock
WHERE sku > %(after)s AND sku <= (
    SELECT max(sku) FROM (
        SELECT DISTINCT sku FROM inventory.stock
        WHERE sku > %(after)s ORDER BY sku LIMIT %(skus)s
    ) AS page
)
ORDER BY sku, warehouse

-- name: audit_stock_of
SELECT sku, warehouse, on_hand, reserved, safety_stock, incoming,
    CASE WHEN incoming_at >= '0001-01-01 00:00+00' AND incoming_at < '9999-12-31 00:00+00'
        THEN incoming_at END,
    version, (extract(epoch FROM updated_at) * 1000000)::bigint, caused_by
FROM inventory.stock
WHERE sku = ANY (%(skus)s::text[])

-- Through the channels: the primary key begins with them.
-- name: audit_overrides_of
SELECT o.channel, o.sku, o.buffer, o.share, o.low_stock_threshold, o.low_stock_hysteresis,
    o.max_per_order, o.backorder_limit, o.ring_fence, o.blocked, o.version
FROM inventory.channel c JOIN inventory.channel_sku o ON o.channel = c.name
WHERE o.sku = ANY (%(skus)s::text[])

-- The versions of deleted rows, of stock and of policies. A row that came and went leaves all the
-- versions that are there as they were, and yet the SKU has changed.
-- name: audit_deletions_of
SELECT d.sku, 'row', d.warehouse, d.version
FROM inventory.stock_deletion d WHERE d.sku = ANY (%(skus)s::text[])
UNION ALL
SELECT d.sku, 'own', d.channel, d.version
FROM inventory.channel c JOIN inventory.policy_deletion d ON d.channel = c.name
WHERE d.sku = ANY (%(skus)s::text[])

-- SKUs that have something of their own on a channel, and no stock.
-- name: audit_stockless_page
SELECT DISTINCT o.sku FROM inventory.channel_sku o
WHERE o.sku > %(after)s
    AND NOT EXISTS (SELECT FROM inventory.stock s WHERE s.sku = o.sku)
ORDER BY o.sku LIMIT %(skus)s

-- name: audit_known
SELECT asked.sku FROM unnest(%(skus)s::text[]) AS asked (sku)
WHERE EXISTS (SELECT FROM inventory.stock s WHERE s.sku = asked.sku)
    OR EXISTS (SELECT FROM inventory.channel_sku o WHERE o.sku = asked.sku)

-- A condition for Debezium: only Postgres itself knows how to quote for Postgres.
-- name: audit_condition
SELECT 'sku IN (' || string_agg(quote_literal(asked.sku), ', ' ORDER BY asked.sku) || ')'
FROM unnest(%(skus)s::text[]) AS asked (sku)

-- The last versions that were drawn, of rows of stock and of policies; null, as in
-- doctor_stock_version, for one that may not be read.
-- name: audit_drawn
SELECT s.sequencename,
    CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN coalesce(s.last_value, 0) END
FROM pg_sequences s
JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
WHERE s.schemaname = 'inventory' AND s.sequencename IN ('stock_version', 'policy_version')

-- name: audit_warehouse
SELECT code FROM inventory.warehouse ORDER BY code LIMIT 1
