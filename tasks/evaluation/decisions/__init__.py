"""How often a held-out set has decided, and what that leaves for the next decision."""
