"""A language model in a folder: opened, described, encoded for, answering."""
