"""One metric per file, in rooms by what they read; the union in `tasks.evaluation.params` is the registry."""
