"""Which label an answer means."""
