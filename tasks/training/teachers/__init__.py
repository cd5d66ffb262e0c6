"""What a student learns from a teacher: its next-token distributions, and how far the student is from them."""
