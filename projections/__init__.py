"""Redis: the working state of a SKU, what storefronts read of it, and the scripts that write it."""
