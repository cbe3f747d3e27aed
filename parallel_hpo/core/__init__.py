"""Types, errors, messages and files that all other packages share."""

from __future__ import annotations
