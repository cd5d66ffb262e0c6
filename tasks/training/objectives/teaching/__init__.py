"""Objectives with a teacher beside the student."""
