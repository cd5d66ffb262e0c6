"""Metrics of how sure a model is, and whether it is right as often as it is sure."""
