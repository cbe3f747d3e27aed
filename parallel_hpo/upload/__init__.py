"""Copies a sweep from a parallel_hpo server to another W&B server."""
