"""Compares every row of Postgres with Redis and with the last messages of the channels."""
