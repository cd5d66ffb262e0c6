"""Many answers to each prompt by a model, rewarded, and the best of them as training rows: ``heptune best-of-n``."""
