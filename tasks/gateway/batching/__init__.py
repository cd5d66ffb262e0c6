"""Rows decoded together, each with the result it would have alone."""
