"""The output of the stage: splits, report and data card."""
