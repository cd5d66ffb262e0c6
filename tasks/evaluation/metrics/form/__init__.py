"""What can be told of an answer whatever it says: length, ends, patterns, whether it refuses."""
