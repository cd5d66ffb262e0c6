"""Rows and texts that are similar: n-grams, MinHash, exact similarity, and what differs."""
