"""What scripts/cloud_check tries against a W&B server: one row for each promise."""
