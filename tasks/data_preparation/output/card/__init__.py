"""What the data card measures, one file each."""
