"""Objectives that learn from pairs and rankings of answers."""
