"""lm-evaluation-harness as a source of questions and measures, and tasks over local files (the YAML files here)."""
