"""The row shapes that are recognised by themselves, turned into conversations and back."""
