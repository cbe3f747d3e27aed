"""Versions of artifacts, their collections and contents."""
