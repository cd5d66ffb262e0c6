"""Texts of conversations: words, folded prompts, labels, refusals."""
