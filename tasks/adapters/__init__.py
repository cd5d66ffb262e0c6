"""`heptune adapters`: LoRA adapters of one base kept by name, combined, and held against every task."""
