"""Tasks of lm-evaluation-harness over local files: the YAML files, and what they call."""
