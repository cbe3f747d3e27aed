"""The search engines of the sweeps at hand, and what they are made from."""
