"""What makes the held-out items fit to decide: not seen in training, and scored for all models alike."""
