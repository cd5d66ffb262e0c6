"""The data card and its measurements, one file each."""
