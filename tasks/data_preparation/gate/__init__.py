"""The quality gate: expectations, measurements, accepted versions and approvals."""
