"""How likely a model finds texts: references, documents, worse answers."""
