"""Rows written by a teacher, each verified before it becomes a source of the first stage."""
