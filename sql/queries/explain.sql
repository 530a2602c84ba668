-- What explains a number, and lists the channels, beside the queries of channels.sql.

-- name: explain_moment
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: channel_updates
SELECT name, (extract(epoch FROM updated_at) * 1000000)::bigint FROM inventory.channel

-- name: override_updates_of_sku
SELECT o.channel, (extract(epoch FROM o.updated_at) * 1000000)::bigint
FROM inventory.channel c JOIN inventory.channel_sku o ON o.channel = c.name
WHERE o.sku = %(sku)s

-- name: override_counts
SELECT channel, count(*) FROM inventory.channel_sku GROUP BY channel

-- name: warehouse_codes
SELECT code FROM inventory.warehouse ORDER BY code
