"""The stage's process starts the ranks of a run, shows what they report and ends them."""
