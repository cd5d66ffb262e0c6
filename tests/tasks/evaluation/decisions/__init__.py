"""Tests of how often a held-out set may decide."""
