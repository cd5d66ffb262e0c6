"""What a model costs whoever runs it, for gates that guard it with a margin."""
