"""Decoding of token sequences in batches: what a model writes after them, and how likely it finds given ones."""
