"""Checkout: units are held, paid for, sent and sold, or all of it is undone, whatever dies."""
