"""Tests of what makes the held-out items fit to decide."""
