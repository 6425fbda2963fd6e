"""Fleets that no laptop has: a trace replayed against scaling policies, the product's own among them."""
