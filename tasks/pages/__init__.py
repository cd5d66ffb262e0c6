"""The look of a page and of a plot."""
