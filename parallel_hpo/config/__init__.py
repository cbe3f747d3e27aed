"""The configuration: the `hpo` section, its sources, and the sweep configuration in it."""
