"""What a user may configure: the `hpo` section, where it is read from, and the sweep configuration in it."""
