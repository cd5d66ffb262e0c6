"""Batches of a run, and the loss of one."""
