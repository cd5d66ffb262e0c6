"""What happens to training rows only: pruning, augmentation, balancing."""
