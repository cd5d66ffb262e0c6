"""The checkout's own server: the reports of every run, and from any of its doors to every other."""
