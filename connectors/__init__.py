"""Kafka Connect: connector files, the client that applies them, and the events that they emit."""
