"""The trainer of a run: made from a plan, its steps, and what is done between them."""
