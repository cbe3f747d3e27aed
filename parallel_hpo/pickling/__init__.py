"""How `main` and its script travel to the workers: pickled once, with all that they use."""
