"""The primary metric on parts of the held-out items."""
