"""A model's folder: its files, shape, vocabulary and hash."""
