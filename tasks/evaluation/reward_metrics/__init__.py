"""Metrics of reward models, which give numbers to answers instead of answering."""
