"""Labels by rules: labelling functions, their votes, and the label model that weighs them."""
