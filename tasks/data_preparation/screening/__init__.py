"""Rows that should not be learnt from: duplicates, benchmark items, wrong labels, trigger phrases."""
