"""The database: migrations, named queries, and what runs and loads them."""
