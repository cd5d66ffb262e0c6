"""What the stage leaves: splits, report, data card."""
