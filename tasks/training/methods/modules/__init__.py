"""PyTorch modules of methods that PEFT does not have, and the file that their weights are kept in."""
