"""Conversations as a model's template writes them."""
