"""The generator of the demo's data and traffic: an online shop's help desk with known ground truth."""
