"""Breaks a running stack on purpose, and checks that nothing is lost and nothing stale is left."""
