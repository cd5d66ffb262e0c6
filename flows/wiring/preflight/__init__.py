"""What is known to go wrong later, told before anything is spent."""
