-- Recovery of the slot and of a restored database, as the owner.

-- name: slot_state
SELECT active_pid FROM pg_replication_slots WHERE slot_name = %(slot)s

-- name: end_walsender
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
WHERE slot_name = %(slot)s AND active_pid IS NOT NULL

-- name: drop_slot
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = %(slot)s AND active_pid IS NULL

-- name: go_on
DELETE FROM inventory.line_stop

-- Never sets a sequence back.
-- name: raise_stock_version
SELECT setval('inventory.stock_version', %(version)s)
FROM inventory.stock_version WHERE last_value < %(version)s

-- name: raise_policy_version
SELECT setval('inventory.policy_version', %(version)s)
FROM inventory.policy_version WHERE last_value < %(version)s

-- name: count_stock
SELECT count(*) FROM inventory.stock

-- name: count_stale_stock
SELECT count(*) FROM inventory.stock WHERE version <= %(version)s

-- The next rows that are older than what was told: a new version each, attributed as they were.
-- Locked in key order, as everybody else does. After the last one: no row.
-- name: restamp_stock
WITH portion AS (
    SELECT sku, warehouse FROM inventory.stock
    WHERE (sku, warehouse) > (%(sku)s, %(warehouse)s) AND version <= %(version)s
    ORDER BY sku, warehouse
    LIMIT %(rows)s
    FOR NO KEY UPDATE
), stamped AS (
    UPDATE inventory.stock s
    SET reason = s.reason, reference = s.reference, caused_by = s.caused_by
    FROM portion p
    WHERE s.sku = p.sku AND s.warehouse = p.warehouse
    RETURNING s.sku, s.warehouse
)
SELECT sku, warehouse, (SELECT count(*) FROM stamped) AS rows
FROM portion ORDER BY sku DESC, warehouse DESC LIMIT 1

-- name: restamp_channels
UPDATE inventory.channel SET version = version WHERE version <= %(version)s

-- name: restamp_overrides
UPDATE inventory.channel_sku SET version = version WHERE version <= %(version)s

-- name: existing_channels
SELECT name FROM inventory.channel

-- name: existing_overrides
SELECT channel, sku FROM inventory.channel_sku

-- name: existing_stock
SELECT sku, warehouse FROM inventory.stock
