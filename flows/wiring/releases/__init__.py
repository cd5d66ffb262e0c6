"""Releases by name: registered, served, started from, compared."""
