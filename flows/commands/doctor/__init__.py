"""``heptune doctor``: what is wrong with the machine and the checkout, each with its place and what to do."""
