"""Rows to train, validation and test."""
