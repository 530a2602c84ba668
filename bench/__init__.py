"""The workload, and what measures it from outside."""
