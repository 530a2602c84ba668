"""What stands in for the world outside: buyers, and services that can be told to fail."""
