-- What the guardian looks at, and where it notes that capture must stand still.
-- depends: 0006_attribution

-- A row says that the database knows less than was already told downstream (it was restored from a
-- backup). It outlives the evidence: once sequences have caught up, nothing else would show it.
CREATE TABLE inventory.line_stop (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    reason text NOT NULL,
    stopped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE inventory.line_stop IS
    'Capture is stopped until `stockwire recover database` has run, which alone removes the row';

-- The guardian stops the line; only the owner, who recovers, lets it go on.
GRANT SELECT, INSERT ON inventory.line_stop TO stockwire_app;

-- Reading the setting takes a privilege; the disk that fills is the one that it names.
CREATE FUNCTION inventory.data_directory() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
RETURN current_setting('data_directory', true);

REVOKE EXECUTE ON FUNCTION inventory.data_directory() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION inventory.data_directory() TO stockwire_app;
