"""Search over params: trials of the training alone, ranked by their validation loss on the same rows."""
