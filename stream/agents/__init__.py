"""The two agents: what is done with each batch. Each calls a pure function, then a port."""
