"""Metrics of answers that are to come from a given context, as in retrieval-augmented generation."""
