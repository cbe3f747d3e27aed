"""W&B's schema, and how each of its fields gets its value."""
