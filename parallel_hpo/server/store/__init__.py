"""All SQL of the server: one file per kind of record, with functions that take the open transaction."""

from __future__ import annotations
