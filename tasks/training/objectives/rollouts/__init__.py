"""Answers that the model writes while it is trained: drawn, continued with tools, rewarded, and kept for reading."""
