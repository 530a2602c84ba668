-- The auditor sees that a row was deleted, also where it came in between two looks.
-- depends: 0007_operations

GRANT SELECT ON inventory.stock_deletion, inventory.policy_deletion TO stockwire_app;
