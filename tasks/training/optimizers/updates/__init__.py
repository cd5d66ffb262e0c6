"""Update rules that PyTorch does not have, as its optimizers; imported when one is built."""
