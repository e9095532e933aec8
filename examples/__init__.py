"""Examples: the shop, and the demo that rolls out a new version of it."""
