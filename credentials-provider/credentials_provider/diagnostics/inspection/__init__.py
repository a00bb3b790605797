"""A token: what it says, whether that is true, and what the registry would say about it."""
