"""Labels for unlabelled texts: by labelling functions, by people, and which texts people should label next."""
