"""Labels for texts that have none: by functions, by people, and which texts people should look at next."""
