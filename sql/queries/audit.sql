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
