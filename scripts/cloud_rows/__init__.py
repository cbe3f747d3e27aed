"""The rows of scripts/cloud_check: one for each promise about W&B's server."""
