"""Addresses, bodies, keys and connections, and the process that serves them."""
