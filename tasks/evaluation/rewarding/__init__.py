"""Answers that reward models are asked about."""
