"""Requests, answers and feedback: a database, and files while there is none."""
