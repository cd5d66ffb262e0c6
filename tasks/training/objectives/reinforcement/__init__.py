"""Objectives that learn by rewards of their own answers."""
