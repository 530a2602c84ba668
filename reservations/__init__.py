"""The write side: units are held, sold or let go, each exactly once, and everybody is told."""
