"""Code that is not of this project, run in processes of its own: answers of models, functions of the user's files."""
