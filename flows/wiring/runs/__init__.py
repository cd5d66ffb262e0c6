"""Runs of stages: the record that each leaves, where its pages are found, and what of it heads the pipeline's run."""
