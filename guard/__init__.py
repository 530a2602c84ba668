"""Watches the slot, the connector and the servers, and says what is wrong and what mends it."""
