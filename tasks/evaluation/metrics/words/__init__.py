"""What of the reference an answer says, by its characters, words and numbers."""
