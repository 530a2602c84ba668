"""Pure rules of the stock: quantities, availability, messages and names. No I/O."""
