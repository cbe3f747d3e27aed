"""Copies a sweep from a server of ours to another W&B server."""
