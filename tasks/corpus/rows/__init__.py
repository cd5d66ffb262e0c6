"""The table that goes through data preparation, and the record of what each step did to it."""
