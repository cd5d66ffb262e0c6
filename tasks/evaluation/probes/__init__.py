"""What is measured on a model beside its answers, where a metric asks for it."""
