"""Brings a sweep that a server of ours has into another W&B server."""
