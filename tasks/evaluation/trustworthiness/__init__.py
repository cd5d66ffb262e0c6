"""What the suites of safety say together: the axes of trustworthiness, and what tuning spoiled."""
