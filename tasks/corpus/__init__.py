"""Conversations as tables: read in any shape, told apart, compared; what stage 1, annotation and synthesis share."""
