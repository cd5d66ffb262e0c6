"""The quality gate: what is expected, measured, accepted and approved."""
