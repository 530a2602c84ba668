"""Builds the projection in Redis anew, from the compacted topics or from Postgres, under load."""
