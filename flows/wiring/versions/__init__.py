"""What DVC knows of the checkout: hashes, repository, commits."""
