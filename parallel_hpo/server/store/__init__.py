"""All SQL of the server: one file per table, each of functions that take the open transaction."""

from __future__ import annotations
