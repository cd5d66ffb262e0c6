"""Metrics that hold an answer's meaning against the reference's, by a model where one is named."""
