"""Trainings beside the pipeline's own: trials of a search and repeats."""
