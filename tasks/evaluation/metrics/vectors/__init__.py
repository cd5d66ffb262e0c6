"""How near the vectors of texts are that belong together."""
