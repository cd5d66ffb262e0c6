"""Steps on training rows only: pruning, augmentation and balancing."""
