"""What a text says, judged without people: bias, entailment, refusals, classes."""
